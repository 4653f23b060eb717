/* template.c - the two entries of the template interpreter, and the only places its errors are caught. */
#include "jinja.h"

enum { MAX_SOURCE = 1 << 20 };

larder_status lr_template_new(lr_str source, lr_template **out, larder_error *err)
{
    *out = NULL;
    if (source.n > MAX_SOURCE) return lr_fail(err, LARDER_LIMIT, "chat template: larger than %d bytes", MAX_SOURCE);
    lr_template *t = lr_calloc(1, sizeof *t);
    jparse *p = lr_calloc(1, sizeof *p);
    if (!t || !p) {
        lr_free(t);
        lr_free(p);
        return LR_NOMEM(err, "the chat template");
    }
    p->t = t;
    p->err = err;
    void *locale = lr_point_enter();
    if (setjmp(p->jmp) == 0) {
        lr_jinja_lex(p, source);
        lr_jinja_parse(p);
    }
    lr_point_leave(locale);
    larder_status st = p->st;
    lr_free(p);
    if (st) lr_template_free(t);
    else *out = t;
    return st;
}

void lr_template_free(lr_template *t)
{
    if (!t) return;
    lr_arena_free(&t->arena);
    lr_free(t);
}

lr_template_budget lr_template_budget_default(void)
{
    return (lr_template_budget){.steps = 50u << 20, .depth = 1000, .n_output = 64 * LR_MIB, .n_memory = 512 * LR_MIB};
}

void lr_rendered_free(lr_rendered *r)
{
    lr_free(r->text);
    lr_free(r->runs);
    *r = (lr_rendered){0};
}

static larder_status deliver(const jbuf *b, lr_rendered *out, larder_error *err)
{
    size_t n_runs = 0;
    for (size_t i = 0; i < b->n; i++) n_runs += i == 0 || !b->mask[i] != !b->mask[i - 1];
    lr_rendered r = {.text = lr_alloc(b->n + 1), .n = b->n, .runs = lr_calloc(LR_MAX(n_runs, 1), sizeof *r.runs)};
    if (!r.text || !r.runs) {
        lr_rendered_free(&r);
        return LR_NOMEM(err, "the rendered chat template");
    }
    if (b->n) memcpy(r.text, b->p, b->n);
    r.text[b->n] = 0;
    for (size_t i = 0; i < b->n; i++) {
        bool trusted = b->mask[i] != 0;
        if (i == 0 || trusted != r.runs[r.n_runs - 1].trusted) r.runs[r.n_runs++].trusted = trusted;
        r.runs[r.n_runs - 1].n++;
    }
    *out = r;
    return LARDER_OK;
}

/* Everything that may longjmp, in a frame of its own: no local of the caller changes after its setjmp. */
static void run(jx *x, json_t *vars, json_t *trusted)
{
    x->vars = vars ? lr_jv_from_json(x, vars, false).u.d : lr_jd_new(x, 0);
    x->trusted = trusted ? lr_jv_from_json(x, trusted, true).u.d : lr_jd_new(x, 0);
    x->out = lr_jbuf_new(x);
    lr_jx_run(x, x->t->root);
}

larder_status lr_template_render(const lr_template *t, json_t *vars, json_t *trusted, int64_t now,
                                 const lr_template_budget *budget, lr_rendered *out, larder_error *err)
{
    *out = (lr_rendered){0};
    if ((vars && !json_is_object(vars)) || (trusted && !json_is_object(trusted)))
        return lr_fail(err, LARDER_USAGE, "chat template: the variables must be an object");
    jx *x = lr_calloc(1, sizeof *x);
    if (!x) return LR_NOMEM(err, "the chat template");
    x->t = t;
    x->err = err;
    x->now = now;
    x->budget = budget ? *budget : lr_template_budget_default();
    void *locale = lr_point_enter();
    if (setjmp(x->jmp) == 0) run(x, vars, trusted);
    lr_point_leave(locale);
    larder_status st = x->st;
    if (!st) st = deliver(x->out, out, err);
    lr_jx_release(x);
    lr_free(x);
    return st;
}
