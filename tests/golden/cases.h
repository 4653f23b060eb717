/* cases.h - the reference's cases whose greedy answers can be compared. The others' cross the length where the rotation
 * changes: llama_dynamic, phi3_longrope. qwen3_fp8 has no converted form that is held to the bars. */
#ifndef LR_TEST_CASES_H
#define LR_TEST_CASES_H

/* clang-format off */
#define GOLDEN_CASES(X) \
    X(llama) \
    X(llama_mha_tied) \
    X(llama_bias) \
    X(llama_wide_heads) \
    X(llama31_rope) \
    X(llama_yarn) \
    X(llama_linear) \
    X(mistral_swa) \
    X(mixtral) \
    X(qwen2) \
    X(qwen3) \
    X(qwen3_moe) \
    X(gemma2) \
    X(gemma3) \
    X(phi3) \
    X(gpt_oss) \
    X(gpt_oss_mxfp4)
/* clang-format on */

#endif
