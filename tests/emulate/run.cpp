/* run.cpp - kernels run: each thread a fiber of its own stack, the blocks of a cluster together, clusters one by one.
 *
 * Owns: fibers, whose turn it is, barriers and meetings, shared memory. Refuses to own: what is computed or copied
 * asynchronously (tensor.cpp), when a kernel runs (card.cpp).
 *
 * A fiber runs until it must wait for others; whoever completes a barrier or a meeting wakes them. When nobody can go on,
 * one of the asynchronous copies under way is made; if there is none, it is a deadlock, and the program ends.
 */
#include "emulate.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define ADDRESSES 1
#else
#define ADDRESSES 0
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

typedef lr_emulated_fiber fiber;
typedef lr_emulated_team team;
typedef lr_emulated_block block;
typedef lr_emulated_warp warp;

enum { SHARED_FROM = 1024, STACK = (ADDRESSES ? 1024 : 256) * 1024, PAGE = 4096 };
static const uint32_t OFFSET = 0xffffff; /* of an address of shared memory; above it, 1 + a block's rank */

lr_emulated_thread *lr_emulated_me;
uint3 gridDim, blockDim;
static fiber host, *before; /* before: who ran before this one */
static team *now;
static std::vector<fiber *> &idle = *new std::vector<fiber *>; /* for as long as the program runs */
extern "C" {
extern uint8_t __start_lr_shared[] __attribute__((weak)), __stop_lr_shared[] __attribute__((weak));
}

unsigned lr_emulated_how::random()
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (unsigned)(seed >> 20);
}

/* ---------------------------------------------------------------- faults */
static void print_place()
{
    const fiber *f = lr_emulated_fiber_now();
    if (!f || f == &host) return;
    fprintf(stderr, "  thread (%u %u %u) of block (%u %u %u), grid (%u %u %u)\n", f->thread.x, f->thread.y, f->thread.z,
            f->block.x, f->block.y, f->block.z, gridDim.x, gridDim.y, gridDim.z);
}

void lr_emulated_fault(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fflush(stdout);
    fprintf(stderr, "emulated card: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    if (now) fprintf(stderr, "  kernel of %s\n", now->kernel->name);
    print_place();
    abort();
}

static void deadlock(const team &t)
{
    std::map<std::string, std::pair<int, const fiber *>> why;
    for (const fiber *f : t.fibers)
        if (!f->done) {
            auto &w = why[f->waits ? f->waits : "its turn"];
            if (!w.first++) w.second = f;
        }
    fflush(stdout);
    for (auto &w : why)
        fprintf(stderr, "emulated card: %d threads wait for %s, the first is (%u %u %u) of block (%u %u %u)\n",
                w.second.first, w.first.c_str(), w.second.second->thread.x, w.second.second->thread.y,
                w.second.second->thread.z, w.second.second->block.x, w.second.second->block.y, w.second.second->block.z);
    lr_emulated_me = nullptr;
    lr_emulated_fault("deadlock");
}

/* ---------------------------------------------------------------- switching */
#if defined(__x86_64__)
extern "C" void lr_emulated_switch(void **from, void *to);
asm(".text\n.globl lr_emulated_switch\n.type lr_emulated_switch,@function\nlr_emulated_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
    ".size lr_emulated_switch,.-lr_emulated_switch\n");
static void jump(fiber *from, fiber *to) { lr_emulated_switch(&from->sp, to->sp); }
static void *fresh(void *stack, size_t size, void (*main)())
{
    void **top = (void **)((uint8_t *)stack + size - 64);
    *--top = nullptr; /* as after a call: the stack is 8 off a multiple of 16 */
    *--top = (void *)main;
    return top - 6;
}
#else
static void jump(fiber *from, fiber *to)
{
    if (!from->sp) from->sp = new ucontext_t;
    swapcontext((ucontext_t *)from->sp, (ucontext_t *)to->sp);
}
static void *fresh(void *stack, size_t size, void (*main)())
{
    ucontext_t *c = new ucontext_t;
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = size;
    makecontext(c, main, 0);
    return c;
}
#endif

static void arrived(void *fake)
{
#if ADDRESSES
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake, &bottom, &size);
    if (before == &host) host.stack = bottom, host.stack_size = size;
#else
    (void)fake;
#endif
}

static void go(fiber *to)
{
    fiber *from = lr_emulated_me ? lr_emulated_fiber_now() : &host;
    if (to == from) return;
#if ADDRESSES
    __sanitizer_start_switch_fiber(&from->fake, to->stack, to->stack_size);
#endif
    before = from;
    lr_emulated_me = to;
    jump(from, to);
    arrived(from->fake);
}

static fiber *next_turn()
{
    team &t = *now;
    if (!t.n_ready) return &host;
    if (lr_emulated_as.order == lr_emulated_how::RANDOM) {
        size_t k = (t.head + lr_emulated_as.random() % t.n_ready) % t.ready.size();
        std::swap(t.ready[t.head], t.ready[k]);
    }
    fiber *f = t.ready[t.head];
    t.head = t.head + 1 == t.ready.size() ? 0 : t.head + 1;
    t.n_ready--;
    f->waits = nullptr;
    return f;
}

void lr_emulated_sleep(const char *why)
{
    lr_emulated_fiber_now()->waits = why;
    go(next_turn());
}

void lr_emulated_team::wake(fiber *f)
{
    size_t at = head + n_ready;
    ready[at >= ready.size() ? at - ready.size() : at] = f;
    n_ready++;
}

void lr_emulated_team::wake_all(std::vector<fiber *> &list)
{
    if (lr_emulated_as.order == lr_emulated_how::REVERSE) std::reverse(list.begin(), list.end());
    for (fiber *f : list) wake(f);
    list.clear();
}

/* ---------------------------------------------------------------- a thread's life */
static void leave(fiber *f);

/* All lanes that are left have come; `last` goes on by itself. */
static void end_meeting(warp &w, warp::meeting &m, unsigned last)
{
    unsigned here = m.here;
    bool up = lr_emulated_as.order != lr_emulated_how::REVERSE;
    m.here = 0;
    m.all(m.record, here);
    for (unsigned i = 0; i < 32; i++) {
        unsigned lane = up ? i : 31 - i;
        if (here >> lane & 1 && lane != last) now->wake(w.lane[lane]);
    }
}

static void fiber_main()
{
    arrived(nullptr);
    for (;;) {
        fiber *f = lr_emulated_fiber_now();
        f->team->kernel->body();
        leave(f);
        go(next_turn());
    }
}

static fiber *take_fiber()
{
    if (!idle.empty()) {
        fiber *f = idle.back();
        idle.pop_back();
        return f;
    }
    fiber *f = new fiber;
    void *p = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) lr_emulated_fault("no memory for a thread's stack");
    mprotect(p, PAGE, PROT_NONE);
    f->stack = (uint8_t *)p + PAGE;
    f->stack_size = STACK;
    /* not all at the same place of a page, or they share few lines of the caches */
    static size_t n_fiber;
    f->sp = fresh((uint8_t *)p + PAGE, STACK - n_fiber++ % 128 * 192, fiber_main);
    return f;
}

static bool all_here(const lr_emulated_barrier &b, unsigned live) { return b.here && b.here == live; }

static void open_barrier(lr_emulated_barrier &b)
{
    b.here = 0;
    now->wake_all(b.waiting);
}

static void leave(fiber *f)
{
    if (f->warp->live == 1u << f->lane && !f->warp->products.empty())
        lr_emulated_fault("a warp ends with products it did not wait for");
    f->done = true;
    f->copies.clear();
    f->groups.clear();
    f->warp->live &= ~(1u << f->lane);
    f->own->live--;
    now->live--;
    for (auto &m : f->warp->meetings)
        if (m.here && m.here == (m.mask & f->warp->live)) end_meeting(*f->warp, m, f->lane);
    if (all_here(f->own->barrier, f->own->live)) open_barrier(f->own->barrier);
    if (all_here(now->barrier, now->live)) open_barrier(now->barrier);
}

/* ---------------------------------------------------------------- barriers and meetings */
static void meet_at(lr_emulated_barrier &b, unsigned live, const char *why)
{
    b.here++;
    if (all_here(b, live)) {
        open_barrier(b);
        return;
    }
    b.waiting.push_back(lr_emulated_fiber_now());
    lr_emulated_sleep(why);
}

void lr_emulated_block_sync()
{
    block &b = *lr_emulated_fiber_now()->own;
    meet_at(b.barrier, b.live, "__syncthreads");
}
void lr_emulated_some_sync(unsigned id, unsigned n)
{
    block &b = *lr_emulated_fiber_now()->own;
    if (!id || id > 15 || !n || n % 32) lr_emulated_fault("barrier %u of %u threads", id, n);
    meet_at(b.some[id], n, "a barrier of some threads");
}
void lr_emulated_cluster_sync() { meet_at(now->barrier, now->live, "the cluster's barrier"); }

void lr_emulated_grid_wait()
{
    now->kernel->waited = true;
    if (now->released) return;
    now->parked.push_back(lr_emulated_fiber_now());
    lr_emulated_sleep("the kernels ahead");
}

void lr_emulated_meet(unsigned mask, lr_emulated_meeting *all, void *record)
{
    fiber *f = lr_emulated_fiber_now();
    warp &w = *f->warp;
    if (!(mask >> f->lane & 1)) lr_emulated_fault("lane %u names lanes %08x, not itself", f->lane, mask);
    warp::meeting &m = w.meetings[__builtin_ctz(mask)];
    if (!m.here) m.mask = mask, m.all = all;
    if (m.mask != mask || m.all != all)
        lr_emulated_fault("a warp's lanes meet in different instructions (lanes %08x and %08x)", m.mask, mask);
    m.here |= 1u << f->lane;
    m.record[f->lane] = record;
    if (m.here == (mask & w.live)) end_meeting(w, m, f->lane);
    else lr_emulated_sleep("its warp");
}

void lr_emulated_shuffle_all(void *const record[32], unsigned mask)
{
    for (unsigned i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        lr_emulated_shuffle *s = (lr_emulated_shuffle *)record[i];
        s->out = s->at < 32 && mask >> s->at & 1 ? ((lr_emulated_shuffle *)record[s->at])->in : ~(uint64_t)0;
    }
}

unsigned __ballot_sync(unsigned mask, int yes)
{
    unsigned v = yes != 0;
    lr_emulated_meet(
        mask,
        [](void *const record[32], unsigned lanes) {
            unsigned r = 0;
            for (unsigned i = 0; i < 32; i++)
                if (lanes >> i & 1) r |= *(unsigned *)record[i] << i;
            for (unsigned i = 0; i < 32; i++)
                if (lanes >> i & 1) *(unsigned *)record[i] = r;
        },
        &v);
    return v;
}

/* ---------------------------------------------------------------- shared memory */
uint8_t *lr_emulated_dynamic() { return lr_emulated_fiber_now()->own->shared; }

uint32_t lr_emulated_smem(const void *p)
{
    const block &b = *lr_emulated_fiber_now()->own;
    size_t at = (size_t)((const uint8_t *)p - b.shared);
    if ((const uint8_t *)p < b.shared || at > b.size) lr_emulated_fault("an address that is not of shared memory");
    return SHARED_FROM + (uint32_t)at;
}
uint32_t lr_emulated_peer(uint32_t at, uint32_t rank)
{
    if (rank >= now->blocks.size()) lr_emulated_fault("block %u of a cluster of %zu", rank, now->blocks.size());
    return (at & OFFSET) | (rank + 1) << 24;
}

uint8_t *lr_emulated_in(block &b, uint32_t at, uint32_t n)
{
    if (at < SHARED_FROM || at - SHARED_FROM + n > b.size)
        lr_emulated_fault("shared memory has %zu bytes, and %u at %d are used", b.size, n, (int)at - SHARED_FROM);
    if (at % (n & -n)) lr_emulated_fault("%u bytes of shared memory at %d, no multiple", n, (int)at - SHARED_FROM);
    if (!b.live) lr_emulated_fault("shared memory of a block that has ended");
    return b.shared + (at - SHARED_FROM);
}
void *lr_emulated_at(uint32_t at, uint32_t n)
{
    uint32_t rank = at >> 24;
    return lr_emulated_in(rank ? now->blocks[rank - 1] : *lr_emulated_fiber_now()->own, at & OFFSET, n);
}

/* ---------------------------------------------------------------- a cluster */
static void begin_block(team &t, block &b, uint3 at, unsigned rank)
{
    const lr_emulated_kernel &k = *t.kernel;
    unsigned n = k.block.x * k.block.y * k.block.z;
    if (b.size != k.smem || !b.shared) {
        free(b.shared);
        b.size = k.smem;
        if (posix_memalign((void **)&b.shared, 1024, k.smem + !k.smem)) lr_emulated_fault("no memory");
    }
    memset(b.shared, 0xff, b.size);
    b.at = at;
    b.live = n;
    b.barrier.here = 0;
    for (auto &s : b.some) s.here = 0;
    b.warps.resize((n + 31) / 32);
    for (unsigned i = 0; i < n; i++) {
        fiber *f = take_fiber();
        warp &w = b.warps[i / 32];
        if (i % 32 == 0) {
            w.live = n - i >= 32 ? ~0u : (1u << (n - i)) - 1;
            for (auto &m : w.meetings) m.here = 0;
        }
        f->thread = {i % k.block.x, i / k.block.x % k.block.y, i / (k.block.x * k.block.y)};
        f->block = at;
        f->lane = i % 32;
        f->rank = rank;
        f->team = &t;
        f->own = &b;
        f->warp = &w;
        f->done = false;
        w.lane[i % 32] = f;
        t.fibers.push_back(f);
    }
}

/* Cluster `which` of the kernel's. */
static void begin_team(team &t, lr_emulated_kernel &k, unsigned which)
{
    unsigned per_row = k.grid.x / k.cluster;
    t.kernel = &k;
    t.blocks.resize(k.cluster);
    t.fibers.clear();
    t.released = false;
    t.statics.assign((size_t)(__stop_lr_shared - __start_lr_shared), 0xff);
    for (unsigned r = 0; r < k.cluster; r++)
        begin_block(t, t.blocks[r],
                    {which % per_row * k.cluster + r, which / per_row % k.grid.y, which / per_row / k.grid.y}, r);
    t.live = (unsigned)t.fibers.size();
    t.ready.resize(t.fibers.size() + 1);
    t.head = t.n_ready = 0;
    std::vector<fiber *> all(t.fibers);
    t.wake_all(all);
}

/* Until all threads have ended or, where they are not released, wait for the kernels ahead. */
static void drive(team &t)
{
    const lr_emulated_kernel &k = *t.kernel;
    now = &t;
    gridDim = {k.grid.x, k.grid.y, k.grid.z};
    blockDim = {k.block.x, k.block.y, k.block.z};
    if (!t.statics.empty()) memcpy(__start_lr_shared, t.statics.data(), t.statics.size());
    for (;;) {
        lr_emulated_me = nullptr;
        if (t.n_ready) {
            go(next_turn());
        } else if (!t.live) {
            break;
        } else if (!t.boxes.empty()) {
            size_t i = lr_emulated_as.order == lr_emulated_how::RANDOM ? lr_emulated_as.random() % t.boxes.size() : 0;
            lr_emulated_box_copy b = t.boxes[i];
            t.boxes.erase(t.boxes.begin() + (ptrdiff_t)i);
            lr_emulated_deliver(t, b);
        } else if (!t.released && !t.parked.empty()) {
            break;
        } else {
            deadlock(t);
        }
    }
    if (t.live && !t.statics.empty()) memcpy(t.statics.data(), __start_lr_shared, t.statics.size());
    lr_emulated_me = nullptr;
    if (!t.boxes.empty() && !t.live) lr_emulated_fault("a block ends while bytes are on their way to it");
    now = nullptr;
}

static void end_team(team &t)
{
    idle.insert(idle.end(), t.fibers.begin(), t.fibers.end());
    t.fibers.clear();
    for (block &b : t.blocks)
        if (ADDRESSES) free(b.shared), b.shared = nullptr;
}

static unsigned n_team(const lr_emulated_kernel &k) { return k.grid.x / k.cluster * k.grid.y * k.grid.z; }
static unsigned nth(const lr_emulated_kernel &k, unsigned i)
{
    return lr_emulated_as.order == lr_emulated_how::REVERSE ? n_team(k) - 1 - i : i;
}

void lr_emulated_begin(lr_emulated_kernel &k)
{
    unsigned most = (unsigned)lr_emulated_as.n_sm;
    for (unsigned i = 0; i < n_team(k) && i < most; i++) {
        team *t = new team;
        k.begun.push_back(t);
        begin_team(*t, k, nth(k, i));
        drive(*t);
    }
}

void lr_emulated_run(lr_emulated_kernel &k)
{
    unsigned i = 0;
    for (team *t : k.begun) {
        t->released = true;
        t->wake_all(t->parked);
        drive(*t);
        end_team(*t);
        for (block &b : t->blocks) free(b.shared);
        delete t;
        i++;
    }
    k.begun.clear();
    static team one;
    for (; i < n_team(k); i++) {
        begin_team(one, k, nth(k, i));
        one.released = true;
        drive(one);
        end_team(one);
    }
    if (k.eager && !k.waited) {
        static team none;
        none.kernel = &k;
        now = &none;
        lr_emulated_fault("no thread waits for the kernels ahead, so the next kernel may overtake them");
    }
}
