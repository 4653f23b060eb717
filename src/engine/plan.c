/* plan.c - what an engine will take, by buffer, and the context that fits. Everything comes from the backend's own
 * account, so that the plan and the allocation cannot disagree. */
#include "engine.h"

#include <stdatomic.h>

#define DEFAULT_BATCH 512u
/* With no context asked for: one of this size (or the model's own) is worth fewer places, and a smaller cache. */
#define GOOD_CTX 8192u
#define MOST_USERS 8u
/* Code and libraries, as far as they are in memory. */
#define PROGRAM (10 * LR_MIB)
/* A cache that is small beside the memory there is, is taken at the start even when nobody asked for its size. */
#define SMALL_CACHE (512 * LR_MIB)

larder_engine_options larder_engine_defaults(void)
{
    return (larder_engine_options){.n_seq = 1, .kv = LARDER_KV_AUTO, .swap_fd = -1};
}

/* Blocks for so many contexts, or for n_cache positions if that is given; one context always has room. */
static uint32_t blocks_for(uint32_t n_ctx, uint32_t n_seq, uint64_t n_cache)
{
    uint64_t one = LR_ALIGN_UP((uint64_t)n_ctx, LR_KV_BLOCK) / LR_KV_BLOCK, n = one * n_seq;
    if (n_cache) n = LR_MIN(n, LR_MAX(one, n_cache / LR_KV_BLOCK));
    return (uint32_t)LR_MIN(n, (uint64_t)LR_KV_NO_BLOCK / 2);
}

/* Left to the rest of the process, its page tables and the system. */
static uint64_t reserve(uint64_t available) { return LR_MIN(64 * LR_MIB, 4 * LR_MIB + available / 128); }

/* Bytes of tables of which a step reads only the rows of its tokens, out of the file: they are not in memory. Embeddings
 * that are the output matrix too are. */
static uint64_t table_bytes(const lr_program *p)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        bool shared = p->ops[i].kind != LR_OP_EMBED;
        for (uint32_t k = 0; !shared && k < p->n_ops; k++)
            shared = (k < i || p->ops[k].kind != LR_OP_EMBED) && p->ops[k].w == p->ops[i].w;
        const lr_weight *w = shared ? NULL : &p->weights[p->ops[i].w];
        if (w && !w->transposed && !w->t->aux) sum += w->t->n_bytes;
    }
    return sum;
}

static void leave_tables(const lr_program *p, lr_account *a)
{
    uint64_t table = table_bytes(p);
    for (uint32_t i = 0; i < a->n; i++)
        if (a->items[i].mapped) a->items[i].n_bytes -= LR_MIN(table, a->items[i].n_bytes);
}

uint32_t lr_plan_swap(const lr_backend *b, const lr_program *p, const lr_limits *l, const larder_engine_options *o)
{
    uint64_t n_block = b->kv_block_bytes(p, l->kv);
    return n_block ? (uint32_t)LR_MIN(o->swap_bytes / n_block, (uint64_t)1 << 24) : 0;
}

uint32_t lr_plan_drafts(const lr_limits *l, const larder_engine_options *o)
{
    if (o->speculate == LARDER_SPECULATE_OFF) return 0;
    return LR_MIN(LR_MIN((uint32_t)LR_DRAFT_ALL, LR_DRAFT_ONE * l->n_seq), l->n_tok - l->n_seq);
}

/* A draft model's buffers, as three. */
static larder_status account_draft(const lr_backend *b, const larder_model *m, const lr_limits *target, lr_account *a,
                                   larder_error *err)
{
    lr_limits l = lr_draft_limits(target);
    lr_program p = {0};
    lr_account own = {0};
    LR_TRY(lr_model_program(&m->model, l.n_ctx, &p, err));
    larder_status st = b->plan(&p, &l, &own, err);
    if (!st) leave_tables(&p, &own);
    lr_program_free(&p);
    for (uint32_t i = 0; !st && i < own.n; i++) {
        bool cache = !strcmp(own.items[i].name, "KV cache");
        bool weights = own.items[i].mapped || !strcmp(own.items[i].name, "weights");
        own.items[i].name = weights ? "draft weights" : cache ? "draft KV cache" : "draft buffers";
        lr_account_put(a, own.items[i]);
    }
    return st;
}

static larder_status account(const lr_backend *b, const lr_program *p, const lr_limits *l,
                             const larder_engine_options *o, lr_account *a, larder_error *err)
{
    uint32_t n_swap = lr_plan_swap(b, p, l, o);
    *a = (lr_account){0};
    LR_TRY(b->plan(p, l, a, err));
    lr_account_add(a, "block tables", lr_kv_cache_bytes(l->n_kv_block, n_swap), false);
    lr_account_add(a, "sampler", lr_sampler_work_bytes(p->n_vocab, l->n_ctx), false);
    leave_tables(p, a);
    if (n_swap) lr_account_add(a, "swap buffer", lr_swap_memory(b->kv_block_bytes(p, l->kv), n_swap), false);
    if (o->draft && o->speculate == LARDER_SPECULATE_AUTO) LR_TRY(account_draft(b, o->draft, l, a, err));
    return LARDER_OK;
}

static uint64_t cache_of(const lr_account *a)
{
    for (uint32_t i = 0; i < a->n; i++)
        if (!strcmp(a->items[i].name, "KV cache")) return a->items[i].n_bytes;
    return 0;
}

static void set_ctx(lr_limits *l, uint32_t n_ctx, uint64_t n_cache)
{
    l->n_ctx = n_ctx;
    l->n_kv_block = blocks_for(n_ctx, l->n_seq, n_cache);
}

/* What the account may take of the two memories. */
typedef struct rooms {
    uint64_t system, card;
    uint64_t n_free; /* of the system's, whatever the limit */
} rooms;

static bool within(const lr_account *a, rooms room)
{
    uint64_t card = lr_account_card(a);
    return card <= room.card && lr_account_total(a) - card <= room.system;
}

/* The largest context in whole blocks whose account stays within `room`; 0 if none does. */
static larder_status largest_ctx(const lr_backend *b, const lr_program *p, lr_limits l,
                                 const larder_engine_options *o, uint32_t max, rooms room, uint32_t *out,
                                 larder_error *err)
{
    uint32_t lo = 0, hi = (max + LR_KV_BLOCK - 1) / LR_KV_BLOCK; /* in blocks: lo fits, hi + 1 does not */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo + 1) / 2;
        lr_account a;
        set_ctx(&l, LR_MIN(mid * LR_KV_BLOCK, max), o->n_cache);
        LR_TRY(account(b, p, &l, o, &a, err));
        if (within(&a, room)) lo = mid;
        else hi = mid - 1;
    }
    *out = LR_MIN(lo * LR_KV_BLOCK, max);
    return LARDER_OK;
}

static larder_status check_options(const larder_engine_options *o, larder_error *err)
{
    if ((unsigned)o->device > LARDER_DEVICE_CUDA) return lr_fail(err, LARDER_USAGE, "device %d", (int)o->device);
    if (o->n_seq > 4096) return lr_fail(err, LARDER_USAGE, "n_seq is %u; the limit is 4096", o->n_seq);
    if (o->n_threads > 1024) return lr_fail(err, LARDER_USAGE, "%u threads; the limit is 1024", o->n_threads);
    if (o->n_batch > 65536) return lr_fail(err, LARDER_USAGE, "a batch of %u tokens; the limit is 65536", o->n_batch);
    if (o->n_ctx > (1u << 24))
        return lr_fail(err, LARDER_USAGE, "a context of %u; the limit is %u", o->n_ctx, 1u << 24);
    if (o->n_cache && o->n_ctx && o->n_cache < o->n_ctx)
        return lr_fail(err, LARDER_USAGE, "a cache of %llu tokens cannot hold one context of %u",
                       (unsigned long long)o->n_cache, o->n_ctx);
    return LARDER_OK;
}

/* Routers behind attention with sinks turn the rounding of an f16 cache into another choice of experts. */
static larder_kv choose_kv(const lr_program *p, larder_kv wish)
{
    if (wish != LARDER_KV_AUTO) return wish;
    for (uint32_t i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind == LR_OP_ATTEND && p->ops[i].attn.sinks != LR_NONE) return LARDER_KV_F32;
    return LARDER_KV_F16;
}

static void fill_limits(const larder_engine_options *o, larder_kv kv, uint32_t n_seq, lr_limits *l)
{
    lr_topology topo;
    lr_topology_get(&topo);
    *l = (lr_limits){.kv = kv, .act = o->act, .n_seq = n_seq, .repack = o->repack};
    l->n_tok = LR_MAX(o->n_batch ? o->n_batch : DEFAULT_BATCH, n_seq);
    l->n_out = LR_MAX(o->n_out, n_seq);
    l->n_tok = LR_MAX(l->n_tok, l->n_out);
    l->n_out = LR_MIN(l->n_out + lr_plan_drafts(l, o), l->n_tok); /* each draft is checked by logits of its own */
    l->n_hidden = LR_MIN(o->n_embed, LR_MIN(l->n_tok, LR_MOST_HIDDEN));
    l->n_thread = o->n_threads ? o->n_threads
                               : (uint32_t)LR_MAX(topo.n_core_perf ? topo.n_core_perf : topo.n_core, 1);
}

/* With so many places and such a cache: the largest context that fits, and whether it is what was asked for. */
static larder_status try_one(const lr_backend *b, const lr_program *p, const larder_engine_options *o, uint32_t train,
                             rooms room, lr_limits *l, larder_plan *plan, bool *good, larder_error *err)
{
    lr_account a;
    LR_TRY(largest_ctx(b, p, *l, o, train, room, &plan->n_ctx_max, err));
    set_ctx(l, o->n_ctx ? o->n_ctx : plan->n_ctx_max ? plan->n_ctx_max : LR_KV_BLOCK, o->n_cache);
    LR_TRY(account(b, p, l, o, &a, err));
    *good = o->n_ctx ? within(&a, room) : plan->n_ctx_max >= LR_MIN(train, GOOD_CTX);
    return LARDER_OK;
}

/* What was left open is chosen by what fits: first fewer places, then a smaller number format of the cache. Where nothing
 * is good enough, the least. */
static larder_status settle(const lr_backend *b, const lr_program *p, const larder_engine_options *o, uint32_t train,
                            rooms room, lr_limits *l, larder_plan *plan, larder_error *err)
{
    larder_kv first = choose_kv(p, o->kv),
              last = o->kv == LARDER_KV_AUTO && first == LARDER_KV_F16 ? LARDER_KV_Q8_0 : first;
    for (larder_kv kv = first;; kv = last) {
        for (uint32_t n = o->n_seq ? o->n_seq : MOST_USERS; n; n = o->n_seq ? 0 : n / 2) {
            bool good;
            fill_limits(o, kv, n, l);
            LR_TRY(try_one(b, p, o, train, room, l, plan, &good, err));
            if (good) return LARDER_OK;
        }
        if (kv == last) return LARDER_OK;
    }
}

/* What each memory has, and of that what may be taken. A limit is the system's: a card has its own. */
static larder_status look_for_room(const lr_backend *b, const larder_engine_options *o, larder_plan *plan, rooms *out,
                                   larder_error *err)
{
    LR_TRY(lr_backend_cpu.memory(&out->n_free, err));
    plan->available = o->memory ? o->memory : out->n_free;
    out->system = plan->available - LR_MIN(plan->available, o->memory ? 0 : reserve(plan->available));
    out->card = 0;
    if (b == &lr_backend_cpu) return LARDER_OK;
    LR_TRY(b->memory(&plan->card_available, err));
    if (o->card_memory) plan->card_available = o->card_memory;
    out->card = plan->card_available -
                LR_MIN(plan->card_available, o->card_memory ? 0 : reserve(plan->card_available));
    return LARDER_OK;
}

/* On one backend, whether it fits or not. */
static larder_status plan_on(const lr_backend *b, const larder_model *m, const larder_engine_options *o,
                             lr_limits *limits, larder_plan *plan, larder_error *err)
{
    uint32_t train = LR_MAX(m->model.hp.n_ctx_train, (uint32_t)LR_KV_BLOCK);
    lr_program p = {0};
    lr_account a;
    rooms room;
    *plan = (larder_plan){.device = b->name};
    larder_status st = look_for_room(b, o, plan, &room, err);
    if (st) return st;
    LR_GO(lr_model_program(&m->model, o->n_ctx ? o->n_ctx : train, &p, err));
    LR_GO(settle(b, &p, o, train, room, limits, plan, err));
    /* no step can be longer than the context of all its sequences together */
    limits->n_tok = (uint32_t)LR_MIN((uint64_t)limits->n_tok, (uint64_t)limits->n_ctx * limits->n_seq);
    limits->n_out = LR_MIN(limits->n_out, limits->n_tok);
    limits->n_hidden = LR_MIN(limits->n_hidden, limits->n_tok);
    LR_GO(account(b, &p, limits, o, &a, err));
    memcpy(plan->buffers, a.items, sizeof plan->buffers);
    plan->n_buffers = a.n;
    plan->n_bytes = lr_account_total(&a);
    plan->n_card = lr_account_card(&a);
    plan->n_ctx = limits->n_ctx;
    plan->n_seq = limits->n_seq;
    plan->kv = limits->kv;
    plan->n_threads = limits->n_thread;
    limits->take_cache = o->reserve || cache_of(&a) <= LR_MIN(SMALL_CACHE, room.n_free / 16);
    plan->n_peak = plan->n_bytes - plan->n_card + LR_MAX(lr_rss_anon(), 4 * LR_MIB) + PROGRAM;
    plan->fits = within(&a, room);
fail:
    lr_program_free(&p);
    return st;
}

#ifdef LR_CUDA
/* With AUTO a card that is there and cannot be used is said to be so, once; one that is not there is not missed. */
static bool has_card(void)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    uint64_t n_free;
    larder_error why = {0};
    larder_status st = lr_backend_cuda.memory(&n_free, &why);
    if (st && st != LARDER_NOT_FOUND && !atomic_flag_test_and_set(&said))
        lr_log(LARDER_LOG_WARN, "the card is not used: %s", why.message);
    return !st;
}
#endif

/* What may run it, best first; NULL after the last. */
static larder_status candidates(larder_device device, const lr_backend *out[3], larder_error *err)
{
    uint32_t n = 0;
    memset(out, 0, 3 * sizeof *out);
#ifdef LR_CUDA
    (void)err;
    if (device == LARDER_DEVICE_CUDA || (device == LARDER_DEVICE_AUTO && has_card())) out[n++] = &lr_backend_cuda;
#else
    if (device == LARDER_DEVICE_CUDA)
        return lr_fail(err, LARDER_UNSUPPORTED, "this build of larder has no CUDA: make CUDA=1 builds it in");
#endif
    if (device != LARDER_DEVICE_CUDA) out[n++] = &lr_backend_cpu;
    return LARDER_OK;
}

larder_status larder_device_open(larder_device device, const char **name, larder_error *err)
{
    const lr_backend *all[3];
    uint64_t n_free;
    LR_TRY(candidates(device, all, err));
    *name = all[0]->name;
    return all[0]->memory(&n_free, err);
}

larder_status larder_card_get(larder_card *out, larder_error *err)
{
#ifdef LR_CUDA
    return lr_backend_cuda.card(out, err);
#else
    (void)out;
    return lr_fail(err, LARDER_NOT_FOUND, "this build of larder has no CUDA: make CUDA=1 builds it in");
#endif
}

larder_status lr_plan_make(const larder_model *m, const larder_engine_options *o, const lr_backend **backend,
                           lr_limits *limits, larder_plan *plan, larder_error *err)
{
    const lr_backend *all[3];
    char said[sizeof plan->not_on_card] = "";
    LR_TRY(check_options(o, err));
    LR_TRY(candidates(o->device, all, err));
    for (uint32_t i = 0; all[i]; i++) {
        larder_error why = {0};
        larder_status st = plan_on(*backend = all[i], m, o, limits, plan, &why);
        memcpy(plan->not_on_card, said, sizeof said);
        if (st && !all[i + 1] && err) *err = why;
        if (!all[i + 1] || (!st && plan->fits)) return st;
        if (st) snprintf(said, sizeof said, "not on the card: %.250s", why.message);
        else
            snprintf(said, sizeof said, "not on the card: it needs %.2f GiB and %.2f GiB are free there",
                     (double)plan->n_card / (double)LR_GIB, (double)plan->card_available / (double)LR_GIB);
    }
    return LARDER_OK;
}

larder_status larder_plan_engine(const larder_model *model, const larder_engine_options *options, larder_plan *out,
                                 larder_error *err)
{
    lr_limits limits;
    const lr_backend *backend;
    return lr_plan_make(model, options, &backend, &limits, out, err);
}

void larder_engine_get_memory(const larder_engine *e, larder_plan *out)
{
    lr_account a;
    *out = e->plan;
    e->backend->resident(e->exec, &a);
    out->n_bytes = out->n_card = 0;
    for (uint32_t i = 0; i < out->n_buffers; i++) {
        larder_buffer *b = &out->buffers[i];
        for (uint32_t k = 0; k < a.n; k++)
            if (b->card == a.items[k].card && !strcmp(b->name, a.items[k].name)) b->n_bytes = a.items[k].n_bytes;
        out->n_bytes += b->n_bytes;
        if (b->card) out->n_card += b->n_bytes;
    }
    out->n_peak = lr_rss_peak();
}

static double gib(uint64_t n) { return (double)n / (double)LR_GIB; }

larder_status lr_plan_refuse(const larder_plan *plan, larder_error *err)
{
    uint64_t weights = 0, system = plan->n_bytes - plan->n_card;
    char least[64] = "no context fits";
    for (uint32_t i = 0; i < plan->n_buffers; i++)
        if (plan->buffers[i].mapped || !strcmp(plan->buffers[i].name, "weights")) weights += plan->buffers[i].n_bytes;
    if (plan->n_ctx_max) snprintf(least, sizeof least, "a context of %u would fit", plan->n_ctx_max);
    if (!plan->n_card)
        return lr_fail(err, LARDER_NOMEM,
                       "needs %.2f GiB (weights %.2f) for a context of %u, and %.2f GiB are free; %s", gib(system),
                       gib(weights), plan->n_ctx, gib(plan->available), least);
    return lr_fail(err, LARDER_NOMEM,
                   "needs %.2f GiB on the card for a context of %u, where %.2f GiB are free, and %.2f GiB of the "
                   "system's memory, where %.2f are (weights %.2f in all); %s",
                   gib(plan->n_card), plan->n_ctx, gib(plan->card_available), gib(system), gib(plan->available),
                   gib(weights), least);
}
