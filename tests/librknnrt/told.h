/* How a test speaks to the stand-in: through files in the folder that RKNN_STAND_IN names.
 *
 * told: lines "WHAT NUMBER", how to misbehave; see librknnrt.c.
 * recorded: for each known input its bytes, and then the bytes of the int8 (or float32) outputs.
 * log: where this file is there, a line is added for each thing that happens. */
#ifndef TOLD_H
#define TOLD_H
#include <stddef.h>

/* 1 where the test told so; number, where not NULL, gets what stands behind. */
int told(const char *what, long *number);

void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The file of recorded outputs, to be freed, and its size; NULL where there is none. */
char *read_recorded(size_t *size);

#endif
