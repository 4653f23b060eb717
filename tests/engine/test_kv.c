/* test_kv.c - the block table: sharing, eviction, and its invariants under random use. */
#include "kv.h"
#include "test.h"

static void block_of(int32_t *ids, int tag)
{
    for (int i = 0; i < LR_KV_BLOCK; i++) ids[i] = tag * 1000 + i;
}

TEST(a_published_prefix_is_found_again)
{
    lr_kv_cache c;
    int32_t ids[3 * LR_KV_BLOCK];
    uint32_t found[3];
    for (int i = 0; i < 3; i++) block_of(ids + i * LR_KV_BLOCK, i);
    CHECK_EQ_INT(lr_kv_cache_init(&c, 8, NULL, NULL), LARDER_OK);
    uint32_t a = lr_kv_take(&c), b = lr_kv_take(&c);
    lr_kv_publish(&c, 0, LR_KV_NO_BLOCK, ids, &a);
    lr_kv_publish(&c, 0, a, ids + LR_KV_BLOCK, &b);
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 3 * LR_KV_BLOCK, 0, found), 2);
    CHECK(found[0] == a && found[1] == b);
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 2 * LR_KV_BLOCK - 1, 0, found), 1);
    CHECK_EQ_INT(lr_kv_match(&c, 7, ids, 3 * LR_KV_BLOCK, 0, found), 0); /* another salt */
    ids[LR_KV_BLOCK] ^= 1;
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 3 * LR_KV_BLOCK, 0, found), 1);
    lr_kv_check(&c);
    lr_kv_cache_close(&c);
}

TEST(the_same_block_after_another_parent_is_another)
{
    lr_kv_cache c;
    int32_t x[LR_KV_BLOCK], y[LR_KV_BLOCK], text[2 * LR_KV_BLOCK];
    uint32_t found[2];
    block_of(x, 1);
    block_of(y, 2);
    CHECK_EQ_INT(lr_kv_cache_init(&c, 8, NULL, NULL), LARDER_OK);
    uint32_t a = lr_kv_take(&c), b = lr_kv_take(&c);
    lr_kv_publish(&c, 0, LR_KV_NO_BLOCK, x, &a);
    lr_kv_publish(&c, 0, a, y, &b);
    memcpy(text, y, sizeof y);
    memcpy(text + LR_KV_BLOCK, y, sizeof y);
    CHECK_EQ_INT(lr_kv_match(&c, 0, text, 2 * LR_KV_BLOCK, 0, found), 0);
    lr_kv_cache_close(&c);
}

TEST(eviction_takes_the_oldest_leaf_and_never_a_used_block)
{
    lr_kv_cache c;
    int32_t ids[4 * LR_KV_BLOCK];
    uint32_t found[4], mine[4];
    for (int i = 0; i < 4; i++) block_of(ids + i * LR_KV_BLOCK, i);
    CHECK_EQ_INT(lr_kv_cache_init(&c, 4, NULL, NULL), LARDER_OK);
    for (int i = 0; i < 4; i++) {
        mine[i] = lr_kv_take(&c);
        lr_kv_publish(&c, 0, i ? mine[i - 1] : LR_KV_NO_BLOCK, ids + i * LR_KV_BLOCK, &mine[i]);
    }
    CHECK_EQ_INT(lr_kv_take(&c), LR_KV_NO_BLOCK);
    for (int i = 4; i-- > 0;) lr_kv_drop(&c, mine[i]);
    CHECK_EQ_INT(lr_kv_room(&c), 4);
    CHECK_EQ_INT(lr_kv_take(&c), mine[3]); /* the leaf goes first */
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 4 * LR_KV_BLOCK, 0, found), 3);
    CHECK_EQ_INT(lr_kv_take(&c), LR_KV_NO_BLOCK); /* the rest is in use again */
    lr_kv_check(&c);
    lr_kv_cache_close(&c);
}

TEST(the_same_text_twice_becomes_one_block)
{
    lr_kv_cache c;
    int32_t x[LR_KV_BLOCK], y[LR_KV_BLOCK];
    block_of(x, 1);
    block_of(y, 2);
    CHECK_EQ_INT(lr_kv_cache_init(&c, 8, NULL, NULL), LARDER_OK);
    uint32_t a = lr_kv_take(&c), b = lr_kv_take(&c), mine = b, next = lr_kv_take(&c);
    lr_kv_publish(&c, 0, LR_KV_NO_BLOCK, x, &a);
    lr_kv_publish(&c, 0, LR_KV_NO_BLOCK, x, &mine);
    CHECK_EQ_INT(mine, a);
    CHECK_EQ_INT(lr_kv_room(&c), 6); /* the second block is free again */
    lr_kv_publish(&c, 0, mine, y, &next);
    CHECK_EQ_INT(lr_kv_shared(&c, 0, x, LR_KV_BLOCK), 1);
    lr_kv_drop(&c, next);
    lr_kv_drop(&c, mine);
    lr_kv_drop(&c, a);
    CHECK_EQ_INT(lr_kv_shared(&c, 0, x, LR_KV_BLOCK), 0);
    CHECK_EQ_INT(lr_kv_room(&c), 8);
    lr_kv_check(&c);
    lr_kv_cache_close(&c);
}

/* A swap that keeps, instead of a block's bytes, the tag that a test gave the block. */
typedef struct fake_swap {
    int block[64], slot[64];
    uint64_t fail_write, fail_read; /* one in so many; 0: none */
} fake_swap;
static bool fake_write(void *user, uint32_t block, uint32_t slot)
{
    fake_swap *f = user;
    if (f->fail_write && test_random() % f->fail_write == 0) return false;
    f->slot[slot] = f->block[block];
    return true;
}
static bool fake_read(void *user, uint32_t slot, uint32_t block)
{
    fake_swap *f = user;
    if (f->fail_read && test_random() % f->fail_read == 0) return false;
    f->block[block] = f->slot[slot];
    return true;
}

TEST(what_is_pushed_out_comes_back)
{
    fake_swap f = {0};
    lr_kv_swap swap = {&f, 3, fake_write, fake_read};
    lr_kv_cache c;
    int32_t ids[4 * LR_KV_BLOCK];
    uint32_t mine[4], found[4];
    for (int i = 0; i < 4; i++) block_of(ids + i * LR_KV_BLOCK, i);
    CHECK_EQ_INT(lr_kv_cache_init(&c, 4, &swap, NULL), LARDER_OK);
    for (int i = 0; i < 4; i++) {
        mine[i] = lr_kv_take(&c);
        f.block[mine[i]] = 100 + i;
        lr_kv_publish(&c, 0, i ? mine[i - 1] : LR_KV_NO_BLOCK, ids + i * LR_KV_BLOCK, &mine[i]);
    }
    for (int i = 4; i-- > 0;) lr_kv_drop(&c, mine[i]);
    for (int i = 0; i < 4; i++) {
        mine[i] = lr_kv_take(&c);
        f.block[mine[i]] = -1;
        lr_kv_check(&c);
    }
    CHECK_EQ_U64(c.n_out, 4); /* three slots: the last of the text made room for the first */
    CHECK_EQ_U64(c.n_lost, 1);
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 4 * LR_KV_BLOCK, 0, found), 0); /* no room */
    for (int i = 0; i < 4; i++) lr_kv_drop(&c, mine[i]);
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 4 * LR_KV_BLOCK, 0, found), 3);
    for (int i = 0; i < 3; i++) CHECK_EQ_INT(f.block[found[i]], 100 + i);
    CHECK_EQ_U64(c.n_in, 3);
    lr_kv_check(&c);
    lr_kv_cache_close(&c);
}

/* Sequences over a small alphabet of blocks come, share, grow and go; the table must stay consistent, and every block found
 * must hold what was written for its text: its tag is a hash of the whole prefix. */
static void use_at_random(uint32_t n_slot, uint64_t fail_write, uint64_t fail_read)
{
    enum { SEQS = 6, LEN = 8, BLOCKS = 16 };
    struct {
        int32_t ids[LEN * LR_KV_BLOCK];
        uint32_t blocks[LEN], n;
        uint64_t salt;
        bool on;
    } s[SEQS] = {0};
    fake_swap f = {.fail_write = fail_write, .fail_read = fail_read};
    lr_kv_swap swap = {&f, n_slot, fake_write, fake_read};
    lr_kv_cache c;
    CHECK_EQ_INT(lr_kv_cache_init(&c, BLOCKS, &swap, NULL), LARDER_OK);
    for (int round = 0; round < 20000; round++) {
        uint32_t k = (uint32_t)test_random() % SEQS;
        if (s[k].n && test_random() % 10 == 0) {
            while (s[k].n > 0) lr_kv_drop(&c, s[k].blocks[--s[k].n]);
            s[k].on = false;
        } else if (!s[k].on) {
            s[k].on = true;
            for (int i = 0; i < LEN; i++) block_of(s[k].ids + i * LR_KV_BLOCK, (int)(test_random() % 3));
            s[k].salt = test_random() % 2;
            uint32_t shared = lr_kv_shared(&c, s[k].salt, s[k].ids, LEN * LR_KV_BLOCK - 1), room = lr_kv_room(&c);
            s[k].n = lr_kv_match(&c, s[k].salt, s[k].ids, LEN * LR_KV_BLOCK - 1, 0, s[k].blocks);
            CHECK_EQ_INT(lr_kv_room(&c) + s[k].n, room + shared);
        } else if (s[k].n < LEN) {
            uint32_t b = lr_kv_take(&c), n = s[k].n;
            if (b == LR_KV_NO_BLOCK) continue;
            f.block[b] = (int)(lr_hash(s[k].ids, (n + 1) * LR_KV_BLOCK * sizeof(int32_t)) + s[k].salt);
            s[k].blocks[s[k].n++] = b;
            lr_kv_publish(&c, s[k].salt, n ? s[k].blocks[n - 1] : LR_KV_NO_BLOCK, s[k].ids + n * LR_KV_BLOCK,
                          &s[k].blocks[n]);
        }
        for (uint32_t i = 0; i < s[k].n; i++)
            CHECK_EQ_INT(f.block[s[k].blocks[i]],
                         (int)(lr_hash(s[k].ids, (i + 1) * LR_KV_BLOCK * sizeof(int32_t)) + s[k].salt));
        lr_kv_check(&c);
    }
    printf("%llu out, %llu in, %llu lost\n", (unsigned long long)c.n_out, (unsigned long long)c.n_in,
           (unsigned long long)c.n_lost);
    CHECK(n_slot < 2 || fail_write || c.n_in > 100);
    lr_kv_cache_close(&c);
}

TEST(random_use_keeps_the_invariants) { use_at_random(0, 0, 0); }
TEST(random_use_with_a_swap) { use_at_random(20, 0, 0); }
TEST(random_use_with_a_tiny_swap) { use_at_random(1, 0, 0); }
TEST(random_use_with_a_swap_that_forgets) { use_at_random(20, 0, 7); }
TEST(random_use_with_a_swap_that_fills) { use_at_random(20, 200, 20); }
