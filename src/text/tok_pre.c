/* tok_pre.c - the pre-tokenizers that GGUF calls by name ("tokenizer.ggml.pre").
 *
 * Owns: one table of names and patterns, as the families' own tokenizer.json have them, read in both directions.
 * A name that is not here is an error: a wrong pattern gives wrong tokens that nobody sees.
 */
#include "tok_impl.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define MARKS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define MARKS_SLASH " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_1 "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+"
#define CASED_2 "[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*"
#define CJK "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+"
#define PUNCT_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"

typedef struct pre {
    const char *names; /* separated by spaces; the first one is written */
    bool nfc, whole_words;
    const char *patterns[6]; /* each isolates its matches */
} pre;

static const pre known[] = {
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 smaug-bpe dbrx",
     false,
     true,
     {CONTRACTIONS "|" WORD "|\\p{N}{1,3}|" MARKS "|" SPACES}},
    {"gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert mpt olmo jais exaone4",
     false,
     false,
     {TOK_GPT2_PATTERN}},
    {"qwen2 deepseek-r1-qwen megrez", true, false, {CONTRACTIONS "|" WORD "|\\p{N}|" MARKS "|" SPACES}},
    {"stablelm2 hunyuan grok-2", false, false, {CONTRACTIONS "|" WORD "|\\p{N}|" MARKS "|" SPACES}},
    {"qwen35",
     true,
     false,
     {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES}},
    {"gpt-4o llama4 kanana2",
     false,
     true,
     {CASED_1 CONTRACTIONS "?|" CASED_2 CONTRACTIONS "?|\\p{N}{1,3}|" MARKS_SLASH "|" SPACES}},
    {"tekken", false, true, {CASED_1 "|" CASED_2 "|\\p{N}|" MARKS_SLASH "|" SPACES}},
    {"deepseek-v3 hunyuan-dense joyai-llm",
     false,
     false,
     {"\\p{N}{1,3}", CJK,
      PUNCT_WORD "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}},
    {"deepseek-llm",
     false,
     false,
     {"[\r\n]",
      "\\s?[A-Za-z\xc2\xb5\xc3\x80-\xc3\x96\xc3\x98-\xc3\xb6\xc3\xb8-\xc6\xba\xc6\xbc-\xc6\xbf\xc7\x84-"
      "\xca\x93\xca\x95-\xca\xaf"
      "\xcd\xb0-\xcd\xb3\xcd\xb6\xcd\xb7\xcd\xbb-\xcd\xbd\xcd\xbf\xce\x86\xce\x88-\xce\x8a\xce\x8c\xce\x8e-"
      "\xce\xa1\xce\xa3-"
      "\xcf\xb5\xcf\xb7-\xd2\x81\xd2\x8a-\xd4\xaf\xd4\xb1-\xd5\x96\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-"
      "\\x{13fd}"
      "\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{"
      "1f15}"
      "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}"
      "\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}"
      "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{"
      "2107}"
      "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{"
      "2134}"
      "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{"
      "2ce4}"
      "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{"
      "a787}"
      "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{"
      "ff5a}"
      "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"
      "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}]+",
      "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+", "\\s+$",
      "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}+"}},
    {"deepseek-coder",
     false,
     false,
     {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+",
      "\\p{N}"}},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b", false, false, {"\\p{N}", TOK_GPT2_PATTERN}},
    {"chatglm-bpe glm4", false, true, {CONTRACTIONS "|" WORD "|\\p{N}{1,3}|" MARKS "|" SPACES}},
    {"default", false, false, {"[\\p{P}\\$\\+<=>\\^~\\|]+", TOK_GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {"falcon", false, false, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", TOK_GPT2_PATTERN, "[0-9][0-9][0-9]"}},
};

static bool among(const char *names, lr_str name)
{
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, " ");
        if (n == name.n && memcmp(p, name.p, n) == 0) return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

larder_status tok_set_pre(lr_tokenizer *t, lr_str name, larder_error *err)
{
    const pre *p = NULL;
    for (size_t i = 0; i < LR_LEN(known) && !p; i++)
        if (among(known[i].names, name)) p = &known[i];
    if (!p) {
        return lr_fail(err, LARDER_UNSUPPORTED,
                       "the file's pre-tokenizer \"%.*s\" (tokenizer.ggml.pre) is not one larder knows",
                       LR_STR_ARG(name));
    }
    for (size_t i = 0; i < LR_LEN(p->patterns) && p->patterns[i]; i++) {
        tok_step *step = &t->pre[t->n_pre++];
        step->kind = TOK_SPLIT;
        step->behaviour = TOK_ISOLATED;
        LR_TRY(tok_compile(&step->regex, lr_str_of(p->patterns[i]), false, err));
    }
    if (p->nfc) t->norm[t->n_norm++] = (tok_step){.kind = TOK_NORM_FORM, .form = TOK_NFC};
    t->ignore_merges = p->whole_words;
    return LARDER_OK;
}

static bool isolates(const tok_step *step, const char *pattern)
{
    if (step->kind != TOK_SPLIT || step->regex.literal || strcmp(step->regex.source, pattern) != 0) return false;
    /* these patterns leave nothing between their matches, so removing what is between changes nothing */
    bool all = strstr(pattern, "|\\s+(?!\\S)|\\s+") != NULL;
    return (step->behaviour == TOK_ISOLATED && !step->invert) ||
           (all && step->behaviour == TOK_REMOVED && step->invert);
}

static bool is_pre(const lr_tokenizer *t, const pre *p)
{
    bool nfc = t->n_norm == 1 && t->norm[0].kind == TOK_NORM_FORM && t->norm[0].form == TOK_NFC;
    if (t->n_norm != (p->nfc ? 1 : 0) || nfc != p->nfc) return false;
    int n = 0;
    for (; n < (int)LR_LEN(p->patterns) && p->patterns[n]; n++)
        if (n >= t->n_pre || !isolates(&t->pre[n], p->patterns[n])) return false;
    return n == t->n_pre;
}

const char *tok_pre_name(const lr_tokenizer *t)
{
    for (size_t i = 0; i < LR_LEN(known); i++)
        if (is_pre(t, &known[i])) return known[i].names;
    return NULL;
}
