/* emulate.h - inside tests/emulate: what its files share. */
#ifndef LR_EMULATE_H
#define LR_EMULATE_H

#include "device.h"

#include <string>
#include <vector>

/* How the card behaves where a real one is free to: LARDER_EMULATED="arch=90,sm=4,order=reverse,...". */
struct lr_emulated_how {
    int arch = 90, n_sm = 4;                           /* generation as 10 major + minor */
    enum { FORWARD, REVERSE, RANDOM } order = FORWARD; /* in which threads and blocks have their turns */
    enum { LATE, EARLY, EITHER } copies = LATE;        /* when asynchronous work is done */
    unsigned early = 0;                                /* kernels that begin before those ahead of them ended */
    enum { NOTHING, DRIVER, DEVICE, IMAGE, TAKING } fail = NOTHING; /* what is wrong with it */
    std::string node; /* a file that its driver opens, to read and write */
    uint64_t seed = 1, memory = (uint64_t)8 << 30;
    uint64_t read = 0; /* what its memory is said to read, GB/s; 0: it cannot be measured */
    bool early_now() { return copies == EARLY || (copies == EITHER && random() % 2); }
    unsigned random();
};
extern lr_emulated_how lr_emulated_as;
size_t lr_emulated_smem_most(); /* a block's shared memory */

/* A kernel to be run. */
struct lr_emulated_kernel {
    const char *name;
    const void *entry;
    std::function<void()> body;
    dim3 grid, block;
    unsigned cluster;
    size_t smem;
    bool eager;          /* may begin before the kernel ahead has ended */
    bool waited = false; /* some thread did wait for it */
    std::vector<struct lr_emulated_team *> begun;
};
/* All blocks up to where they wait for kernels ahead, or to their ends. */
void lr_emulated_begin(lr_emulated_kernel &k);
void lr_emulated_run(lr_emulated_kernel &k);

/* Products that a warp has asked for and not waited for. */
struct lr_emulated_product {
    float *d[32];
    uint32_t a[32][4];
    uint64_t desc;
    uint32_t n;
    bool bf16;
};
struct lr_emulated_warp {
    struct meeting {
        lr_emulated_meeting *all;
        unsigned mask, here;
        void *record[32];
    } meetings[32]; /* by the lowest lane of the mask */
    struct lr_emulated_fiber *lane[32];
    unsigned live;
    std::vector<lr_emulated_product> products;
    std::vector<size_t> groups; /* where each ends */
};

struct lr_emulated_copy {
    uint8_t *to;
    const uint8_t *from;
    uint32_t n;
};
struct lr_emulated_fiber : lr_emulated_thread {
    void *sp = nullptr, *fake = nullptr; /* fake: address sanitizer's */
    const void *stack = nullptr;
    size_t stack_size = 0;
    struct lr_emulated_team *team = nullptr;
    struct lr_emulated_block *own = nullptr;
    lr_emulated_warp *warp = nullptr;
    std::vector<lr_emulated_copy> copies;
    std::vector<size_t> groups;
    const char *waits = nullptr; /* for what; NULL: it does not */
    bool done = true;
};
inline lr_emulated_fiber *lr_emulated_fiber_now() { return static_cast<lr_emulated_fiber *>(lr_emulated_me); }

struct lr_emulated_barrier {
    unsigned here = 0;
    std::vector<lr_emulated_fiber *> waiting;
};
struct lr_emulated_block {
    uint3 at;
    uint8_t *shared = nullptr;
    size_t size = 0;
    unsigned live = 0;
    lr_emulated_barrier barrier, some[16]; /* some: of those who name them */
    std::vector<lr_emulated_warp> warps;
};

/* A box on its way. */
struct lr_emulated_box_copy {
    const void *map;
    int at[3];
    uint32_t rank, to, bar; /* to, bar: in each of the blocks */
    uint32_t blocks;        /* a bit per block of the cluster */
};

/* A cluster's blocks, or one block, under way. */
struct lr_emulated_team {
    lr_emulated_kernel *kernel = nullptr;
    std::vector<lr_emulated_block> blocks;
    std::vector<lr_emulated_fiber *> fibers, ready; /* ready: a ring */
    size_t head = 0, n_ready = 0;
    unsigned live = 0;
    lr_emulated_barrier barrier;
    struct waiter {
        lr_emulated_fiber *who;
        const uint64_t *bar;
        unsigned parity;
    };
    std::vector<waiter> waiters;
    std::vector<lr_emulated_box_copy> boxes;
    std::vector<lr_emulated_fiber *> parked; /* waiting for the kernels ahead */
    bool released = false;
    std::vector<uint8_t> statics; /* the section of __shared__ variables, while it is another's turn */

    void wake(lr_emulated_fiber *f);
    void wake_all(std::vector<lr_emulated_fiber *> &list);
};
/* The thread that runs waits until woken. */
void lr_emulated_sleep(const char *why);
void lr_emulated_deliver(lr_emulated_team &t, const lr_emulated_box_copy &b);
uint8_t *lr_emulated_in(lr_emulated_block &b, uint32_t at, uint32_t n);

/* cuTensorMapEncodeTiled, as far as it is used. */
int lr_emulated_encode_map(void *map, int type, uint32_t rank, void *data, const uint64_t *dims,
                           const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,
                           int swizzle, int l2, int oob);
#endif
