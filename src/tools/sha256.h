/* sha256.h - SHA-256 (FIPS 180-4), for checking what was downloaded. */
#ifndef LR_SHA256_H
#define LR_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct lr_sha256 {
    uint32_t h[8];
    uint64_t n; /* bytes so far */
    uint8_t block[64];
} lr_sha256;

void lr_sha256_start(lr_sha256 *s);
void lr_sha256_add(lr_sha256 *s, const void *p, size_t n);
void lr_sha256_end(lr_sha256 *s, char hex[65]); /* lower case */

#endif
