/* test_topology.c - machines that are not here, as hwloc describes them: nodes, threads of a core, slower cores. */
#include "base.h"
#include "os.h"
#include "test.h"

#ifdef LR_NO_HWLOC
TEST(machines_of_all_kinds) { SKIP("this build has no hwloc"); }
#else
#include <hwloc.h>
#include <stdlib.h>
#include <unistd.h>

static lr_topology read_one(const char *from)
{
    lr_topology t;
    CHECK(lr_topology_read(from, &t));
    CHECK(t.n_core_perf >= 1 && t.n_core_perf <= t.n_core && t.n_core <= t.n_thread);
    return t;
}

/* Cores [0, n_slow) are of a slower kind; every so many cpus, from `gone` on, one does not exist. By way of a file. */
static lr_topology with_kinds(const char *words, int n_slow, int gone, int every)
{
    char path[] = "/tmp/larder-topology-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && !close(fd));
    hwloc_topology_t topo;
    hwloc_bitmap_t slow = hwloc_bitmap_alloc(), fast = hwloc_bitmap_alloc(), all = hwloc_bitmap_alloc();
    CHECK(!hwloc_topology_init(&topo) && !hwloc_topology_set_synthetic(topo, words) && !hwloc_topology_load(topo));
    hwloc_bitmap_copy(all, hwloc_topology_get_topology_cpuset(topo));
    for (int i = gone; every && i <= hwloc_bitmap_last(all); i += every) hwloc_bitmap_clr(all, (unsigned)i);
    CHECK(!hwloc_topology_restrict(topo, all, 0));
    for (int i = 0; i < hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_CORE); i++) {
        hwloc_obj_t core = hwloc_get_obj_by_type(topo, HWLOC_OBJ_CORE, (unsigned)i);
        hwloc_bitmap_or(i < n_slow ? slow : fast, i < n_slow ? slow : fast, core->cpuset);
    }
    CHECK(!hwloc_cpukinds_register(topo, slow, 0, 0, NULL, 0) && !hwloc_cpukinds_register(topo, fast, 1, 0, NULL, 0));
    CHECK(!hwloc_topology_export_xml(topo, path, 0));
    hwloc_bitmap_free(slow), hwloc_bitmap_free(fast), hwloc_bitmap_free(all);
    hwloc_topology_destroy(topo);
    lr_topology t = read_one(path);
    unlink(path);
    return t;
}

TEST(two_sockets)
{
    lr_topology t = read_one("numanode:2 l3:1 core:8 pu:2");
    CHECK_EQ_INT(t.n_numa, 2);
    CHECK_EQ_INT(t.n_core, 16);
    CHECK_EQ_INT(t.n_core_perf, 16);
    CHECK_EQ_INT(t.n_thread, 32);
    for (int i = 0; i < 16; i++) {
        CHECK_EQ_INT(t.core_cpu[i], 2 * i);
        CHECK_EQ_INT(t.core_node[i], i / 8);
    }
}

/* Cpus that are numbered across the nodes, as many servers do: node by node all the same. */
TEST(cpus_numbered_in_turn)
{
    lr_topology t = read_one("numanode:2 core:4 pu:1(indexes=0,2,4,6,1,3,5,7)");
    for (int i = 0; i < 8; i++) {
        CHECK_EQ_INT(t.core_node[i], i / 4);
        CHECK_EQ_INT(t.core_cpu[i], i % 4 * 2 + i / 4);
    }
}

/* A GB10: ten slower cores first, ten fast ones after them. */
TEST(ten_and_ten)
{
    lr_topology t = with_kinds("core:20 pu:1", 10, 0, 0);
    CHECK_EQ_INT(t.n_core, 20);
    CHECK_EQ_INT(t.n_core_perf, 10);
    CHECK_EQ_INT(t.n_thread, 20);
    for (int i = 0; i < 20; i++) CHECK_EQ_INT(t.core_cpu[i], (i + 10) % 20);
}

/* Eight slower cores and four fast ones, of two threads each; then those second threads are switched off. */
TEST(threads_of_a_core)
{
    lr_topology t = with_kinds("core:12 pu:2", 8, 1, 2), both = with_kinds("core:12 pu:2", 8, 0, 0);
    CHECK_EQ_INT(t.n_thread, 12);
    CHECK_EQ_INT(both.n_thread, 24);
    CHECK_EQ_INT(t.n_core, 12);
    CHECK_EQ_INT(t.n_core_perf, 4);
    for (int i = 0; i < 4; i++) CHECK_EQ_INT(t.core_cpu[i], 16 + 2 * i);
    for (int i = 4; i < 12; i++) CHECK_EQ_INT(t.core_cpu[i], 2 * (i - 4));
}

TEST(what_is_no_machine)
{
    lr_topology t;
    CHECK(!lr_topology_read("no machine", &t));
    CHECK(!lr_topology_read("tests/base/test_topology.c", &t));
}

static void look_where(void *ctx, int thread, int n_thread)
{
    lr_os_cpus *at = ctx;
    (void)n_thread;
    lr_os_get_cpus(&at[thread]);
}

/* All threads of a pool that fits on the fast cores run there, and the caller has its own cpus back. */
TEST(a_pool_keeps_to_the_fast_cores)
{
    lr_os_cpus before, after, at[2], want = {{0}};
    lr_topology here, t;
    lr_pool *pool;
    larder_error err;
    lr_topology_get(&here);
    if (!lr_os_get_cpus(&before) || here.n_core < 2) SKIP("this machine has one core, or threads cannot be placed");
    t = here;
    t.n_core = 3, t.n_core_perf = 1;
    t.core_cpu[0] = here.core_cpu[1], t.core_cpu[1] = here.core_cpu[0];
    lr_topology_pretend(&t);
    CHECK_OK(lr_pool_new(1, true, &pool, &err)); /* one fast core, one thread */
    lr_pool_run(pool, look_where, at);
    lr_pool_free(pool);
    want.bits[t.core_cpu[0] / 64] = 1ull << t.core_cpu[0] % 64;
    CHECK(!memcmp(&at[0], &want, sizeof want));
    CHECK(lr_os_get_cpus(&after) && !memcmp(&after, &before, sizeof after));
    t.n_core_perf = 2;
    lr_topology_pretend(&t);
    CHECK_OK(lr_pool_new(2, true, &pool, &err)); /* two of each */
    lr_pool_run(pool, look_where, at);
    lr_pool_free(pool);
    want.bits[t.core_cpu[1] / 64] |= 1ull << t.core_cpu[1] % 64;
    CHECK(!memcmp(&at[0], &want, sizeof want) && !memcmp(&at[1], &want, sizeof want));
    CHECK(lr_os_get_cpus(&after) && !memcmp(&after, &before, sizeof after));
    t.n_core_perf = 1;
    lr_topology_pretend(&t);
    CHECK_OK(lr_pool_new(2, true, &pool, &err)); /* more threads than fast cores: the system's to place */
    lr_pool_run(pool, look_where, at);
    lr_pool_free(pool);
    CHECK(!memcmp(&at[0], &before, sizeof before) && !memcmp(&at[1], &before, sizeof before));
    lr_topology_pretend(NULL);
}
#endif
