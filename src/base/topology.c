/* topology.c - cores, caches and memory nodes of this machine, as hwloc sees them.
 *
 * Owns: the only use of hwloc. Without it (LR_NO_HWLOC) every hardware thread counts as a core.
 */
#include "base.h"
#include "os.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static lr_topology found, pretended;
static bool pretends;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* What is known without hwloc. */
static void detect_plain(lr_topology *t)
{
    *t = (lr_topology){.n_numa = 1};
    snprintf(t->cpu, sizeof t->cpu, "unknown");
    t->n_thread = lr_os_cpu_count();
    t->n_core = t->n_core_perf = LR_MIN(t->n_thread, (int)LR_LEN(t->core_cpu));
    for (int i = 0; i < t->n_core; i++) t->core_cpu[i] = i;
}

#ifndef LR_NO_HWLOC
#include <hwloc.h>

static uint64_t cache_bytes(hwloc_topology_t topo, hwloc_obj_type_t type, bool sum)
{
    uint64_t n = 0;
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(topo, type, o)); n += o->attr->cache.size)
        if (!sum) return o->attr->cache.size;
    return n;
}

static void read_name(hwloc_topology_t topo, lr_topology *t)
{
    hwloc_obj_t package = hwloc_get_obj_by_type(topo, HWLOC_OBJ_PACKAGE, 0);
    const char *name = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
    if (!name) name = hwloc_obj_get_info_by_name(hwloc_get_root_obj(topo), "CPUModel");
    if (name) snprintf(t->cpu, sizeof t->cpu, "%s", name);
}

/* The first memory node that is local to a core. */
static int node_of(hwloc_topology_t topo, hwloc_obj_t core)
{
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(topo, HWLOC_OBJ_NUMANODE, node)))
        if (hwloc_bitmap_isset(core->nodeset, node->os_index)) return (int)node->logical_index;
    return 0;
}

/* Appends the allowed cores of one kind (NULL: of all kinds), one cpu number each. */
static void add_cores(hwloc_topology_t topo, hwloc_const_cpuset_t allowed, hwloc_const_cpuset_t kind, lr_topology *t)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    hwloc_obj_t core = NULL;
    while (set && t->n_core < (int)LR_LEN(t->core_cpu) &&
           (core = hwloc_get_next_obj_by_type(topo, HWLOC_OBJ_CORE, core))) {
        hwloc_bitmap_and(set, core->cpuset, allowed);
        if (kind) hwloc_bitmap_and(set, set, kind);
        int cpu = hwloc_bitmap_first(set);
        if (cpu < 0) continue;
        t->core_node[t->n_core] = node_of(topo, core);
        t->core_cpu[t->n_core++] = cpu;
    }
    hwloc_bitmap_free(set);
}

/* hwloc ranks kinds from the most efficient to the fastest; we list the fastest first. */
static void read_cores(hwloc_topology_t topo, hwloc_const_cpuset_t allowed, lr_topology *t)
{
    t->n_core = t->n_core_perf = 0;
    hwloc_bitmap_t kind = hwloc_bitmap_alloc();
    int n_kind = kind ? hwloc_cpukinds_get_nr(topo, 0) : 0, efficiency;
    for (int k = n_kind - 1; k >= 0; k--) {
        if (hwloc_cpukinds_get_info(topo, (unsigned)k, kind, &efficiency, NULL, NULL, 0)) continue;
        add_cores(topo, allowed, kind, t);
        if (!t->n_core_perf) t->n_core_perf = t->n_core;
    }
    hwloc_bitmap_free(kind);
    if (t->n_core) return;
    add_cores(topo, allowed, NULL, t);
    t->n_core_perf = t->n_core;
}

/* Of this machine, what this process may use; of a description, all. */
static void detect_hwloc(hwloc_topology_t topo, lr_topology *t)
{
    bool here = hwloc_topology_is_thissystem(topo);
    hwloc_bitmap_t allowed = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(topo));
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    if (allowed && bound) {
        if (here && !hwloc_get_cpubind(topo, bound, HWLOC_CPUBIND_PROCESS) && hwloc_bitmap_intersects(bound, allowed))
            hwloc_bitmap_and(allowed, allowed, bound);
        int n = LR_MAX(1, hwloc_bitmap_weight(allowed));
        t->n_thread = here ? LR_MIN(t->n_thread, n) : n;
        lr_topology plain = *t;
        read_cores(topo, allowed, t);
        if (!t->n_core) *t = plain; /* a system that does not tell cores apart */
    }
    hwloc_bitmap_free(allowed);
    hwloc_bitmap_free(bound);
    read_name(topo, t);
    t->n_numa = LR_MAX(1, hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_NUMANODE));
    t->l1d = cache_bytes(topo, HWLOC_OBJ_L1CACHE, false);
    t->l2 = cache_bytes(topo, HWLOC_OBJ_L2CACHE, false);
    t->l3 = cache_bytes(topo, HWLOC_OBJ_L3CACHE, true);
}

static void detect(void)
{
    detect_plain(&found);
    hwloc_topology_t topo;
    if (hwloc_topology_init(&topo)) return;
    if (!hwloc_topology_load(topo)) detect_hwloc(topo, &found);
    hwloc_topology_destroy(topo);
    /* A quota of cpu time smaller than the cores in sight: more threads than that would only wait. */
    found.n_core = LR_MIN(found.n_core, found.n_thread);
    found.n_core_perf = LR_MIN(found.n_core_perf, found.n_core);
}

bool lr_topology_read(const char *from, lr_topology *out)
{
    hwloc_topology_t topo;
    detect_plain(out);
    if (hwloc_topology_init(&topo)) return false;
    bool known = !access(from, R_OK) ? !hwloc_topology_set_xml(topo, from)
                                     : !hwloc_topology_set_synthetic(topo, from);
    known = known && !hwloc_topology_load(topo);
    if (known) detect_hwloc(topo, out);
    hwloc_topology_destroy(topo);
    return known;
}
#else
static void detect(void) { detect_plain(&found); }
bool lr_topology_read(const char *from, lr_topology *out)
{
    (void)from;
    detect_plain(out);
    return false;
}
#endif

void lr_topology_get(lr_topology *out)
{
    pthread_once(&once, detect);
    *out = pretends ? pretended : found;
}

void lr_topology_pretend(const lr_topology *t)
{
    pretends = t;
    if (t) pretended = *t;
}
