/* memory.c - the cache as the scheduler asks for it: a request's blocks from admission to preemption or its end.
 *
 * Owns: what admit, grow and evict of schedule.h mean here; salts. Refuses to own: the tree (kv.c), the decisions (schedule.c).
 *
 * What a request computed goes to the prefix tree as it fills blocks, so that giving way is dropping references: the tree
 * keeps the blocks while there is room, then the swap does, and coming back is finding one's own text, and computing the
 * rest again from its tokens.
 */
#include "engine.h"

static uint32_t blocks_for(uint32_t n_pos) { return (n_pos + LR_KV_BLOCK - 1) / LR_KV_BLOCK; }

void lr_memory_publish(larder_request *r)
{
    larder_engine *e = r->engine;
    if (e->options.no_prefix_cache) return;
    for (; (r->n_published + 1) * LR_KV_BLOCK <= r->job.n_done; r->n_published++) {
        uint32_t i = r->n_published;
        lr_kv_publish(&e->kv, r->salt, i ? r->blocks[i - 1] : LR_KV_NO_BLOCK, r->ids + (size_t)i * LR_KV_BLOCK,
                      &r->blocks[i]);
    }
}

/* The last one first (see lr_kv_cache's eviction). */
void lr_memory_give_back(larder_request *r)
{
    lr_job *j = &r->job;
    while (j->n_blocks > 0) lr_kv_drop(&r->engine->kv, r->blocks[--j->n_blocks]);
    j->n_done = r->n_published = 0;
    lr_draft_forget(&r->engine->draft, r);
}

static bool admit(void *user, lr_job *j, uint32_t spare)
{
    larder_engine *e = user;
    larder_request *r = j->user;
    bool tree = !e->options.no_prefix_cache;
    uint32_t before = j->n_ids - 1; /* the last token is always computed: its logits are wanted */
    uint32_t need = blocks_for(j->n_ids) - (tree ? lr_kv_shared(&e->kv, r->salt, r->ids, before) : 0);
    if (lr_kv_room(&e->kv) < (uint64_t)need + spare) return false;
    if (tree) j->n_blocks = r->n_published = lr_kv_match(&e->kv, r->salt, r->ids, before, 0, r->blocks);
    j->n_done = j->n_blocks * LR_KV_BLOCK;
    if (!r->t_start) {
        r->t_start = lr_now_ns();
        r->n_cached = j->n_done;
        e->stats.n_prompt += j->n_prompt;
        e->stats.n_prompt_cached += j->n_done;
        e->stats.queue_s += (double)(r->t_start - r->t_submit) * 1e-9;
    } else {
        e->stats.n_recomputed += r->n_reached - LR_MIN(r->n_reached, j->n_done);
    }
    return true;
}

/* Takes what others have computed of its text since it was admitted; what it has of the next block itself is given up. */
static void catch_up(larder_engine *e, larder_request *r)
{
    lr_job *j = &r->job;
    uint32_t before = j->n_ids - 1, had = j->n_done;
    if (!lr_kv_has_next(&e->kv, r->salt, r->ids, before, r->n_published, r->blocks)) return;
    while (j->n_blocks > r->n_published) lr_kv_drop(&e->kv, r->blocks[--j->n_blocks]);
    j->n_blocks = r->n_published = lr_kv_match(&e->kv, r->salt, r->ids, before, r->n_published, r->blocks);
    j->n_done = j->n_blocks * LR_KV_BLOCK;
    if (j->n_done < had) e->stats.n_recomputed += had - j->n_done; /* the swap failed it */
    if (j->n_done <= had) return;
    r->caught_up = true;
    if (j->n_preempted) return;
    r->n_cached += j->n_done - had;
    e->stats.n_prompt_cached += j->n_done - had;
}

/* q computes the block that r lacks next: they share all blocks before it, and its tokens are the same. */
static bool computes_next(const larder_request *q, const larder_request *r)
{
    uint32_t at = r->n_published, end = (at + 1) * LR_KV_BLOCK;
    if (q->salt != r->salt || q->n_published != at || q->job.n_ids < end || r->job.n_ids <= end) return false;
    if (at && q->blocks[at - 1] != r->blocks[at - 1]) return false;
    return !memcmp(q->ids + (end - LR_KV_BLOCK), r->ids + (end - LR_KV_BLOCK), LR_KV_BLOCK * sizeof *r->ids);
}

static bool follow(void *user, lr_job *const *running, uint32_t at)
{
    larder_engine *e = user;
    larder_request *r = running[at]->user;
    if (e->options.no_prefix_cache) return false;
    catch_up(e, r);
    for (uint32_t i = 0; i < at; i++)
        if (running[i]->n_ids - running[i]->n_done > 1 && computes_next(running[i]->user, r)) return true;
    return false;
}

static bool grow(void *user, lr_job *j, uint32_t n_pos)
{
    larder_engine *e = user;
    larder_request *r = j->user;
    for (; j->n_blocks < blocks_for(n_pos); j->n_blocks++) {
        uint32_t b = lr_kv_take(&e->kv);
        if (b == LR_KV_NO_BLOCK) return false;
        r->blocks[j->n_blocks] = b;
    }
    return true;
}

static void evict(void *user, lr_job *j)
{
    larder_request *r = j->user;
    (void)user;
    r->n_reached = LR_MAX(r->n_reached, j->n_done);
    lr_memory_give_back(r);
}

static uint32_t room(void *user)
{
    const larder_engine *e = user;
    return lr_kv_room(&e->kv);
}

void lr_memory_fill(larder_engine *e) { e->memory = (lr_sched_memory){e, admit, grow, evict, room, follow}; }

/* ---------------------------------------------------------------- salts */
static larder_status add_salt(lr_salts *s, const char *text, size_t n, struct lr_salt **out, larder_error *err)
{
    struct lr_salt *at = s->list;
    if (!at && !(at = s->list = lr_calloc(LR_MOST_SALTS, sizeof *at))) return LR_NOMEM(err, "the cache's salts");
    char *copy = lr_strndup(text, n);
    if (!copy) return LR_NOMEM(err, "the cache's salts");
    if (s->n < LR_MOST_SALTS) {
        at = &s->list[s->n++];
    } else {
        for (uint32_t i = 1; i < s->n; i++)
            if (s->list[i].used < at->used) at = &s->list[i];
        lr_free(at->text);
    }
    *at = (struct lr_salt){copy, ++s->next, 0};
    *out = at;
    return LARDER_OK;
}

larder_status lr_salt_number(lr_salts *s, const char *text, uint64_t *out, larder_error *err)
{
    struct lr_salt *at = NULL;
    size_t n = text ? strlen(text) : 0;
    *out = 0;
    if (!n) return LARDER_OK;
    if (n > LR_MOST_SALT) return lr_fail(err, LARDER_USAGE, "a cache salt of %zu bytes; at most %d", n, LR_MOST_SALT);
    for (uint32_t i = 0; i < s->n && !at; i++)
        if (!strcmp(s->list[i].text, text)) at = &s->list[i];
    if (!at) LR_TRY(add_salt(s, text, n, &at, err));
    at->used = ++s->clock;
    *out = at->number;
    return LARDER_OK;
}

void lr_salts_close(lr_salts *s)
{
    for (uint32_t i = 0; i < s->n; i++) lr_free(s->list[i].text);
    lr_free(s->list);
    *s = (lr_salts){0};
}
