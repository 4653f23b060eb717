/* card.cpp - the runtime's interface to the emulated card: devices, memory, streams, events, graphs, launches.
 *
 * A stream is a list of what was asked for, done when somebody waits for it and no sooner: what the host touches too early
 * is there as it was. Memory of the card is a block of the heap each, filled with NaNs, so that sanitizers see its bounds.
 */
#include "emulate.h"

#include "cuda.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

typedef std::shared_ptr<lr_emulated_kernel> kernel_ref;
struct task { /* a kernel, or anything else */
    kernel_ref kernel;
    std::function<void()> work;
};
struct lr_emulated_graph {
    std::vector<task> tasks;
    unsigned uses;
};
struct lr_emulated_stream {
    std::deque<task> tasks;
    bool blocking = true;
    lr_emulated_graph *capture = nullptr;
};
struct lr_emulated_event {
    lr_emulated_stream *stream = nullptr; /* where it is yet to come */
    unsigned ahead = 0;                   /* records that have not come */
    bool come = false;
    std::chrono::steady_clock::time_point when;
};

static std::recursive_mutex mutex;
typedef std::lock_guard<std::recursive_mutex> lock;
static lr_emulated_stream common; /* the default stream */
static std::vector<lr_emulated_stream *> streams;
static std::map<const uint8_t *, size_t> pinned, memory;
static std::map<const void *, size_t> smem_of; /* kernels' limits */
static size_t in_use;
const char *lr_emulated_name = "?";

/* ---------------------------------------------------------------- how it behaves */
static bool set(lr_emulated_how &h, const std::string &name, const std::string &v)
{
    typedef lr_emulated_how how;
    uint64_t n = strtoull(v.c_str(), nullptr, 10);
    if (name == "arch" && n >= 70) h.arch = (int)n;
    else if (name == "sm" && n) h.n_sm = (int)n;
    else if (name == "memory" && n) h.memory = n << 20;
    else if (name == "read" && n) h.read = n;
    else if (name == "early") h.early = (unsigned)n;
    else if (name == "seed" && n) h.seed = n;
    else if (name == "node") h.node = v;
    else if (name == "fail" && v == "driver") h.fail = how::DRIVER;
    else if (name == "fail" && v == "device") h.fail = how::DEVICE;
    else if (name == "fail" && v == "image") h.fail = how::IMAGE;
    else if (name == "fail" && v == "taking") h.fail = how::TAKING;
    else if (name == "order" && v == "forward") h.order = how::FORWARD;
    else if (name == "order" && v == "reverse") h.order = how::REVERSE;
    else if (name == "order" && v == "random") h.order = how::RANDOM;
    else if (name == "copies" && v == "late") h.copies = how::LATE;
    else if (name == "copies" && v == "early") h.copies = how::EARLY;
    else if (name == "copies" && v == "either") h.copies = how::EITHER;
    else return false;
    return true;
}
static lr_emulated_how read_how()
{
    lr_emulated_how h;
    std::string all = getenv("LARDER_EMULATED") ? getenv("LARDER_EMULATED") : "";
    for (size_t at = 0, end; at < all.size(); at = end + 1) {
        end = std::min(all.find(',', at), all.size());
        std::string word = all.substr(at, end - at);
        size_t eq = word.find('=');
        if (eq == std::string::npos || !set(h, word.substr(0, eq), word.substr(eq + 1)))
            lr_emulated_fault("LARDER_EMULATED: '%s'?", word.c_str());
    }
    return h;
}
lr_emulated_how lr_emulated_as = read_how();

size_t lr_emulated_smem_most()
{
    int a = lr_emulated_as.arch;
    return (a == 80 ? 163 : a == 90 || a == 100 || a == 103 ? 227 : 99) * 1024;
}

/* ---------------------------------------------------------------- doing what streams list */
static bool begins_early(const task &t) { return t.kernel && t.kernel->eager; }

static void run_first(lr_emulated_stream &s)
{
    unsigned n = 0;
    if (s.tasks[0].kernel)
        for (size_t i = 1; i < s.tasks.size() && begins_early(s.tasks[i]) && n < lr_emulated_as.early; i++, n++)
            if (s.tasks[i].kernel->begun.empty()) lr_emulated_begin(*s.tasks[i].kernel);
    task t = s.tasks[0];
    s.tasks.pop_front();
    if (t.kernel) lr_emulated_run(*t.kernel);
    else t.work();
}
static void finish(lr_emulated_stream &s)
{
    while (!s.tasks.empty()) run_first(s);
}
static void finish_all()
{
    finish(common);
    for (auto *s : streams) finish(*s);
}
/* What the default stream waits for. */
static void finish_blocking()
{
    finish(common);
    for (auto *s : streams)
        if (s->blocking) finish(*s);
}

static lr_emulated_stream &stream_of(cudaStream_t s) { return s ? *s : common; }

static cudaError_t add(cudaStream_t to, task t)
{
    lr_emulated_stream &s = stream_of(to);
    if (s.capture) {
        s.capture->tasks.push_back(t);
        return cudaSuccess;
    }
    if (&s == &common)
        for (auto *other : streams)
            if (other->blocking) finish(*other);
    if (&s != &common && s.blocking) finish(common);
    s.tasks.push_back(t);
    return cudaSuccess;
}
static cudaError_t add_work(cudaStream_t s, std::function<void()> work) { return add(s, {nullptr, work}); }

/* ---------------------------------------------------------------- the device */
extern "C" {
const char *cudaGetErrorName(cudaError_t e) { return cudaGetErrorString(e); }
const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorNotSupported: return "operation not supported";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorSymbolNotFound: return "named symbol not found";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
    case cudaErrorOperatingSystem: return "OS call failed or operation not supported on this OS";
    default: return "an illegal state";
    }
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
/* As a driver does when it is first used, and, if it is a device, whenever it maps memory. */
static bool is_device()
{
    struct stat st;
    return !stat(lr_emulated_as.node.c_str(), &st) && S_ISCHR(st.st_mode);
}
static bool open_node()
{
    int fd = lr_emulated_as.node.empty() ? -1 : open(lr_emulated_as.node.c_str(), O_RDWR | O_CLOEXEC);
    if (fd >= 0) close(fd);
    return fd >= 0 || lr_emulated_as.node.empty();
}
cudaError_t cudaGetDeviceCount(int *n)
{
    static bool begun;
    bool none = lr_emulated_as.fail == lr_emulated_how::DRIVER || lr_emulated_as.fail == lr_emulated_how::DEVICE;
    *n = none ? 0 : 1;
    if (none) return lr_emulated_as.fail == lr_emulated_how::DRIVER ? cudaErrorInsufficientDriver : cudaErrorNoDevice;
    if (!begun && !open_node()) return cudaErrorOperatingSystem;
    begun = true;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *id)
{
    *id = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceReset(void) { return cudaSuccess; }
cudaError_t cudaSetDevice(int id) { return id ? cudaErrorInvalidValue : cudaSuccess; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int id)
{
    if (id) return cudaErrorInvalidValue;
    *p = cudaDeviceProp();
    snprintf(p->name, sizeof p->name, "an emulated card");
    p->totalGlobalMem = lr_emulated_as.memory;
    p->sharedMemPerBlockOptin = lr_emulated_smem_most();
    p->major = lr_emulated_as.arch / 10;
    p->minor = lr_emulated_as.arch % 10;
    p->multiProcessorCount = lr_emulated_as.n_sm;
    p->l2CacheSize = 4 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr which, int id)
{
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, id);
    if (e) return e;
    switch (which) {
    case cudaDevAttrMultiProcessorCount: *v = p.multiProcessorCount; break;
    case cudaDevAttrComputeCapabilityMajor: *v = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *v = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = (int)p.sharedMemPerBlockOptin; break;
    default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    lock l(mutex);
    finish_all();
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *room, size_t *all)
{
    lock l(mutex);
    *all = lr_emulated_as.memory;
    *room = *all - in_use;
    return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **fn, unsigned version, unsigned long long flags,
                                             cudaDriverEntryPointQueryResult *r)
{
    (void)version, (void)flags;
    bool known = !strcmp(name, "cuTensorMapEncodeTiled");
    *fn = known ? (void *)lr_emulated_encode_map : nullptr;
    *r = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return known ? cudaSuccess : cudaErrorSymbolNotFound;
}

/* ---------------------------------------------------------------- memory */
cudaError_t cudaMalloc(void **p, size_t n)
{
    lock l(mutex);
    *p = nullptr;
    if (lr_emulated_as.fail == lr_emulated_how::TAKING) return cudaErrorMemoryAllocation;
    if (n > lr_emulated_as.memory - in_use || posix_memalign(p, 256, n + !n)) return cudaErrorMemoryAllocation;
    memset(*p, 0xff, n);
    memory[(const uint8_t *)*p] = n;
    in_use += n;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    lock l(mutex);
    if (!p) return cudaSuccess;
    finish_all();
    auto at = memory.find((const uint8_t *)p);
    if (at == memory.end()) return cudaErrorInvalidValue;
    in_use -= at->second;
    memory.erase(at);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t n)
{
    lock l(mutex);
    if (is_device() && !open_node()) return cudaErrorOperatingSystem;
    *p = nullptr;
    if (posix_memalign(p, 4096, n + !n)) return cudaErrorMemoryAllocation;
    pinned[(const uint8_t *)*p] = n;
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p)
{
    lock l(mutex);
    if (!p) return cudaSuccess;
    finish_all();
    if (!pinned.erase((const uint8_t *)p)) return cudaErrorInvalidValue;
    free(p);
    return cudaSuccess;
}

static bool within(const std::map<const uint8_t *, size_t> &all, const void *p, size_t n)
{
    auto at = all.upper_bound((const uint8_t *)p);
    if (at == all.begin()) return false;
    --at;
    return (const uint8_t *)p + n <= at->first + at->second;
}
/* Where bytes are to lie that `kind` says are the card's. */
static bool fits(const void *to, const void *from, size_t n_to, size_t n_from, enum cudaMemcpyKind kind)
{
    bool to_card = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_card = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return within(memory, to, n_to) == to_card && within(memory, from, n_from) == from_card;
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t n, cudaStream_t s)
{
    lock l(mutex);
    if (!within(memory, to, n)) return cudaErrorInvalidValue;
    return add_work(s, [=] { memset(to, byte, n); });
}
cudaError_t cudaMemset(void *to, int byte, size_t n) { return cudaMemsetAsync(to, byte, n, nullptr); }

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t s)
{
    lock l(mutex);
    if (!width || !height) return cudaSuccess;
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
    size_t n_to = to_pitch * (height - 1) + width, n_from = from_pitch * (height - 1) + width;
    if (!fits(to, from, n_to, n_from, kind)) return cudaErrorInvalidValue;
    bool pageable_from = kind == cudaMemcpyHostToDevice && !within(pinned, from, n_from);
    bool pageable_to = kind == cudaMemcpyDeviceToHost && !within(pinned, to, n_to);
    if (pageable_from) { /* its bytes are taken before the call returns */
        auto kept = std::make_shared<std::vector<uint8_t>>((const uint8_t *)from, (const uint8_t *)from + n_from);
        return add_work(s, [=] {
            for (size_t i = 0; i < height; i++)
                memcpy((uint8_t *)to + i * to_pitch, kept->data() + i * from_pitch, width);
        });
    }
    cudaError_t e = add_work(s, [=] {
        for (size_t i = 0; i < height; i++)
            memcpy((uint8_t *)to + i * to_pitch, (const uint8_t *)from + i * from_pitch, width);
    });
    if (!e && pageable_to && !stream_of(s).capture) finish(stream_of(s));
    return e;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t s)
{
    return cudaMemcpy2DAsync(to, n, from, n, n, n != 0, kind, s);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind kind)
{
    lock l(mutex);
    cudaError_t e = cudaMemcpyAsync(to, from, n, kind, nullptr);
    finish_blocking();
    return e;
}

/* ---------------------------------------------------------------- streams and graphs */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    lock l(mutex);
    *s = new lr_emulated_stream;
    (*s)->blocking = !(flags & cudaStreamNonBlocking);
    streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithFlags(s, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    lock l(mutex);
    finish(*s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (ptrdiff_t)i);
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    lock l(mutex);
    if (stream_of(s).capture) return cudaErrorStreamCaptureUnsupported;
    finish(stream_of(s));
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode)
{
    lock l(mutex);
    (void)mode;
    if (!s || s->capture) return cudaErrorIllegalState;
    s->capture = new lr_emulated_graph{{}, 1};
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    lock l(mutex);
    *g = s->capture;
    s->capture = nullptr;
    return *g ? cudaSuccess : cudaErrorIllegalState;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags)
{
    lock l(mutex);
    (void)flags;
    *x = new lr_emulated_graph(*g);
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t x, cudaStream_t s)
{
    (void)x, (void)s;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s)
{
    lock l(mutex);
    cudaError_t e = cudaSuccess;
    for (task t : x->tasks) {
        if (t.kernel) t.kernel = std::make_shared<lr_emulated_kernel>(*t.kernel);
        if (!e) e = add(s, t);
    }
    return e;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x)
{
    lock l(mutex);
    finish_all();
    delete x;
    return cudaSuccess;
}

/* ---------------------------------------------------------------- events */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    (void)flags;
    *e = new lr_emulated_event;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    lock l(mutex);
    if (stream_of(s).capture) return cudaErrorStreamCaptureUnsupported;
    e->stream = &stream_of(s);
    e->ahead++;
    return add_work(s, [e] {
        e->ahead--;
        e->come = true;
        e->when = std::chrono::steady_clock::now();
    });
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    lock l(mutex);
    while (e->ahead && !e->stream->tasks.empty()) run_first(*e->stream);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    lock l(mutex);
    return e->ahead ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags)
{
    (void)flags;
    return add_work(s, [e] { cudaEventSynchronize(e); });
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    cudaEventSynchronize(e);
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    lock l(mutex);
    if (!a->come || !b->come) return cudaErrorInvalidValue;
    if (a->ahead || b->ahead) return cudaErrorNotReady;
    *ms = std::chrono::duration<float, std::milli>(b->when - a->when).count();
    return cudaSuccess;
}

/* ---------------------------------------------------------------- launches */
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute which, int value)
{
    lock l(mutex);
    if (which != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || (size_t)value > lr_emulated_smem_most())
        return cudaErrorInvalidValue;
    smem_of[kernel] = (size_t)value;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveClusters(int *n, const void *kernel, const cudaLaunchConfig_t *c)
{
    unsigned size = 1;
    (void)kernel;
    for (unsigned i = 0; i < c->numAttrs; i++)
        if (c->attrs[i].id == cudaLaunchAttributeClusterDimension) size = c->attrs[i].val.clusterDim.x;
    if (size > 8) return cudaErrorInvalidValue;
    *n = lr_emulated_as.n_sm / (int)size > 1 ? lr_emulated_as.n_sm / (int)size : 1;
    return cudaSuccess;
}
}

/* What peak.cu would measure: nothing that were worth knowing. */
double lr_cu_read_rate(const lr_cu_device *, const void *, uint64_t, uint32_t *, cudaStream_t)
{
    return 1e9 * (double)lr_emulated_as.read;
}
double lr_cu_peak(const lr_cu_device *, float *, cudaStream_t) { return 0.0; }

static bool good(const cudaLaunchConfig_t *c, unsigned cluster)
{
    dim3 g = c->gridDim, b = c->blockDim;
    if (!g.x || !g.y || !g.z || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535) return false;
    if (!b.x || !b.y || !b.z || b.z > 64 || (uint64_t)b.x * b.y * b.z > 1024) return false;
    return cluster && cluster <= 8 && g.x % cluster == 0 && (cluster == 1 || lr_emulated_as.arch >= 90);
}

cudaError_t lr_emulated_launch(const cudaLaunchConfig_t *c, const void *kernel, std::function<void()> body)
{
    lock l(mutex);
    lr_emulated_kernel k;
    k.name = lr_emulated_name;
    k.entry = kernel;
    k.body = body;
    k.grid = c->gridDim;
    k.block = c->blockDim;
    k.cluster = 1;
    k.smem = c->dynamicSmemBytes;
    k.eager = false;
    for (unsigned i = 0; i < c->numAttrs; i++) {
        const cudaLaunchAttribute &a = c->attrs[i];
        if (a.id == cudaLaunchAttributeClusterDimension) {
            k.cluster = a.val.clusterDim.x;
            if (a.val.clusterDim.y != 1 || a.val.clusterDim.z != 1) return cudaErrorNotSupported;
        } else {
            k.eager = a.val.programmaticStreamSerializationAllowed;
        }
    }
    if (lr_emulated_as.fail == lr_emulated_how::IMAGE) return cudaErrorNoKernelImageForDevice;
    if (!good(c, k.cluster)) return cudaErrorInvalidConfiguration;
    if (k.eager && lr_emulated_as.arch < 90) return cudaErrorNotSupported;
    size_t most = smem_of.count(kernel) ? smem_of[kernel] : 48 * 1024;
    if (k.smem > most) return cudaErrorInvalidValue;
    return add(c->stream, {std::make_shared<lr_emulated_kernel>(k), nullptr});
}
