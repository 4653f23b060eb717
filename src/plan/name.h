/* name.h - finding a thing of a catalogue by the name a person wrote.
 *
 * Owns: how names are cut into words and compared. "RTX3090", "Nvidia RTX 3090 24GB" and "3090" are one card; "4070 Ti"
 * is not a "4070".
 */
#ifndef LR_NAME_H
#define LR_NAME_H

#include "base.h"

#define LR_NAME_WORDS 40
typedef struct lr_name {
    char text[320];
    const char *word[LR_NAME_WORDS];
    int n;
} lr_name;

/* Lower case, cut at signs and between three or more digits and letters; "32-Core GPU" becomes 32c. */
void lr_name_cut(const char *s, lr_name *out);
/* How well `aliases` ("a b|c") fits: 0 not at all; more words and letters are better; a word of `name` that makes it
 * another product (ti, super, max) and is not in the alias counts against it. */
int lr_name_fits(const lr_name *name, const char *aliases);
/* Letters to change to make a of b, for "did you mean". */
int lr_name_distance(const char *a, const char *b);

#endif
