/* backend.h - the seam: a program compiled once for a device, then run step by step.
 *
 * Owns: the table a backend fills, what a batch is, what a compiled program is promised to do.
 * Refuses to own: scheduling, sampling, block allocation (src/engine); architectures (src/model).
 *
 * A step takes T tokens of several sequences: decode tokens and chunks of prompts alike. The cache is paged: blocks of
 * LR_KV_BLOCK positions; a sequence is a table of block numbers, so a shared prefix is shared numbers. A token's
 * result depends on its sequence's tokens alone: not on T, the other sequences, threads, or who computed the blocks.
 */
#ifndef LR_BACKEND_H
#define LR_BACKEND_H

#include "account.h"
#include "program.h"

#define LR_KV_BLOCK 32

typedef struct lr_limits {
    uint32_t n_tok;      /* most tokens of a step */
    uint32_t n_out;      /* most output rows of a step */
    uint32_t n_hidden;   /* most of them in a step that wants hidden states; 0: none does */
    uint32_t n_seq;      /* most sequences of a step */
    uint32_t n_ctx;      /* most positions of a sequence */
    uint32_t n_kv_block; /* blocks in the cache */
    larder_kv kv;
    larder_act act;
    uint32_t n_thread;
    bool repack; /* matrices are copied, each thread's rows to the memory nearest to it, as the kernels like them */
    bool take_cache; /* the cache is in memory from the start: all of it, not what was written so far */
} lr_limits;

typedef struct lr_batch_seq {
    const uint32_t
        *blocks;     /* covers n_past + n_tok positions; those this step writes belong to this sequence alone */
    uint32_t n_past; /* positions already in the cache */
    uint32_t n_tok;  /* tokens of this step: positions n_past .. n_past + n_tok - 1 */
} lr_batch_seq;

typedef struct lr_batch {
    const int32_t *ids; /* [n_tok], sequence after sequence; each in [0, n_vocab) (the caller checked) */
    uint32_t n_tok;
    const lr_batch_seq *seqs;
    uint32_t n_seq;
    const uint32_t *out; /* [n_out] rising token indexes whose logits are wanted */
    uint32_t n_out;
    bool hidden; /* their hidden states are, and no logits: the step ends there */
} lr_batch;

/* Time of one operator (after fusion) summed over steps, for `bench --ops`. */
typedef struct lr_op_time {
    const char *name;
    uint64_t ns, bytes, ops; /* bytes read of weights and cache; multiply-adds count two */
    uint32_t calls;
    larder_act act; /* what its multiply-adds are made of */
} lr_op_time;

/* What a card can do, measured now: bytes a second, and operations a second of bf16 products. 0: it could not be
 * measured. */
typedef struct lr_card_rates {
    double read, bf16;
    double in, out; /* of pinned memory to the card, and back */
} lr_card_rates;

typedef struct lr_exec lr_exec;

typedef struct lr_backend {
    const char *name;
    /* Bytes free where its buffers lie. The first call opens the device: what that takes of files and rights is not needed
     * again. LARDER_NOT_FOUND: the machine has no such device; any other error: it has, and this is wrong with it. */
    larder_status (*memory)(uint64_t *n_free, larder_error *err);
    /* What it is, and has. NULL: the processor. */
    larder_status (*card)(larder_card *out, larder_error *err);
    /* Takes memory of the card for a second, at most a quarter of what is free. NULL where `card` is. */
    larder_status (*measure)(lr_card_rates *out, larder_error *err);
    /* Adds every buffer that open would take (weights as mapped; KV cache; activations; scratch; copies). */
    larder_status (*plan)(const lr_program *p, const lr_limits *l, lr_account *account, larder_error *err);
    /* p and pool outlive the exec. Takes exactly what plan said; no call after it allocates. */
    larder_status (*open)(const lr_program *p, const lr_limits *l, lr_pool *pool, lr_exec **out, larder_error *err);
    /* The same buffers by the same names, with the bytes of each that are in memory now. */
    void (*resident)(const lr_exec *x, lr_account *account);
    void (*close)(lr_exec *x);
    /* *logits: [n_out, n_vocab] float32, or hidden states [n_out, n_embd rounded up to 16];
     * valid until the next step. */
    larder_status (*step)(lr_exec *x, const lr_batch *b, const float **logits, larder_error *err);
    /* The bytes of a block, kv_block_bytes of them, to and from memory. Between steps. */
    void (*kv_read)(lr_exec *x, uint32_t block, uint8_t *out);
    void (*kv_write)(lr_exec *x, uint32_t block, const uint8_t *from);
    uint64_t (*kv_block_bytes)(const lr_program *p, larder_kv kv);
    /* Bytes of weights and cache a decode step of these depths must read (routed experts: those expected). */
    uint64_t (*step_bytes)(const lr_exec *x, const lr_batch *b);
    /* What its memory can be read at (bytes a second), and its units can multiply (operations a second in numbers of this
     * kind; 0: it has none), measured now. NULL: the caller's threads are what computes, and he measures them himself. */
    double (*read_rate)(lr_exec *x);
    double (*peak)(lr_exec *x, larder_act kind);
    void (*profile)(lr_exec *x, bool on);
    uint32_t (*profile_read)(lr_exec *x, lr_op_time *out, uint32_t cap);
} lr_backend;

extern const lr_backend lr_backend_cpu;
#ifdef LR_CUDA
extern const lr_backend lr_backend_cuda;
#endif

/* ---- what one core of this machine can do, measured now (peak.c) */
/* Operations a second of int8, bf16 or f32 multiply-adds (each counts two); 0: it has no such unit. About 0.1 s. */
double lr_cpu_peak(larder_act kind);
/* Reads n bytes (a multiple of 1024) as fast as a core can; the result only keeps the compiler honest. */
uint64_t lr_cpu_read(const void *p, size_t n);
/* Puts n bytes out of all caches, so that the next reading is memory's; false: programs may not, here. */
bool lr_cpu_put_out(const void *p, size_t n);

#endif
