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
    CHECK_EQ_INT(lr_kv_cache_init(&c, 8, NULL), LARDER_OK);
    uint32_t a = lr_kv_take(&c), b = lr_kv_take(&c);
    lr_kv_publish(&c, 0, LR_KV_NO_BLOCK, ids, a);
    lr_kv_publish(&c, 0, a, ids + LR_KV_BLOCK, b);
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 3 * LR_KV_BLOCK, found), 2);
    CHECK(found[0] == a && found[1] == b);
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 2 * LR_KV_BLOCK - 1, found), 1);
    CHECK_EQ_INT(lr_kv_match(&c, 7, ids, 3 * LR_KV_BLOCK, found), 0); /* another salt */
    ids[LR_KV_BLOCK] ^= 1;
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 3 * LR_KV_BLOCK, found), 1);
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
    CHECK_EQ_INT(lr_kv_cache_init(&c, 8, NULL), LARDER_OK);
    uint32_t a = lr_kv_take(&c), b = lr_kv_take(&c);
    lr_kv_publish(&c, 0, LR_KV_NO_BLOCK, x, a);
    lr_kv_publish(&c, 0, a, y, b);
    memcpy(text, y, sizeof y);
    memcpy(text + LR_KV_BLOCK, y, sizeof y);
    CHECK_EQ_INT(lr_kv_match(&c, 0, text, 2 * LR_KV_BLOCK, found), 0);
    lr_kv_cache_close(&c);
}

TEST(eviction_takes_the_oldest_leaf_and_never_a_used_block)
{
    lr_kv_cache c;
    int32_t ids[4 * LR_KV_BLOCK];
    uint32_t found[4], mine[4];
    for (int i = 0; i < 4; i++) block_of(ids + i * LR_KV_BLOCK, i);
    CHECK_EQ_INT(lr_kv_cache_init(&c, 4, NULL), LARDER_OK);
    for (int i = 0; i < 4; i++) {
        mine[i] = lr_kv_take(&c);
        lr_kv_publish(&c, 0, i ? mine[i - 1] : LR_KV_NO_BLOCK, ids + i * LR_KV_BLOCK, mine[i]);
    }
    CHECK_EQ_INT(lr_kv_take(&c), LR_KV_NO_BLOCK);
    for (int i = 4; i-- > 0;) lr_kv_drop(&c, mine[i]);
    CHECK_EQ_INT(lr_kv_room(&c), 4);
    CHECK_EQ_INT(lr_kv_take(&c), mine[3]); /* the leaf goes first */
    CHECK_EQ_INT(lr_kv_match(&c, 0, ids, 4 * LR_KV_BLOCK, found), 3);
    CHECK_EQ_INT(lr_kv_take(&c), LR_KV_NO_BLOCK); /* the rest is in use again */
    lr_kv_check(&c);
    lr_kv_cache_close(&c);
}

/* Sequences over a small alphabet of blocks come, share, grow and go; the table must stay consistent. */
TEST(random_use_keeps_the_invariants)
{
    enum { SEQS = 6, LEN = 8, BLOCKS = 24 };
    struct {
        int32_t ids[LEN * LR_KV_BLOCK];
        uint32_t blocks[LEN], n;
    } s[SEQS] = {0};
    lr_kv_cache c;
    CHECK_EQ_INT(lr_kv_cache_init(&c, BLOCKS, NULL), LARDER_OK);
    for (int round = 0; round < 20000; round++) {
        uint32_t k = (uint32_t)test_random() % SEQS;
        if (s[k].n && test_random() % 4 == 0) {
            while (s[k].n > 0) lr_kv_drop(&c, s[k].blocks[--s[k].n]);
        } else if (!s[k].n) {
            for (int i = 0; i < LEN; i++) block_of(s[k].ids + i * LR_KV_BLOCK, (int)(test_random() % 3));
            s[k].n = lr_kv_match(&c, 0, s[k].ids, LEN * LR_KV_BLOCK - 1, s[k].blocks);
        } else if (s[k].n < LEN) {
            uint32_t b = lr_kv_take(&c), n = s[k].n;
            if (b == LR_KV_NO_BLOCK) continue;
            s[k].blocks[s[k].n++] = b;
            lr_kv_publish(&c, 0, n ? s[k].blocks[n - 1] : LR_KV_NO_BLOCK, s[k].ids + n * LR_KV_BLOCK, b);
        }
        lr_kv_check(&c);
    }
    lr_kv_cache_close(&c);
}
