/* What the stand-in for librknnrt knows of a compiled model. */
#ifndef MODEL_H
#define MODEL_H
#include <stddef.h>
#include <stdint.h>

enum { NAME = 256, OUTPUTS = 32 };

/* dims: n, c, h, w. quantized: int8 whose real value is (q - zero_point) * scale, else float16. */
struct tensor {
    char name[NAME];
    uint32_t dims[4], elements;
    int quantized;
    float scale;
    int32_t zero_point;
};

struct model {
    struct tensor input, output[OUTPUTS];
    uint32_t outputs;
};

/* Reads a .rknn file's bytes. 0, or -1 where they are none of format version 6, or one with another
 * number of inputs than one. */
int read_model(const char *data, size_t size, struct model *model);

#endif
