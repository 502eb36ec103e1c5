/* A stand-in for the vendor's librknnrt on machines without an NPU, written from what is public of
 * its interface. It reads the tensors' attributes from the .rknn it is given, checks how it is used,
 * and answers known inputs with recorded outputs, others with the lowest values.
 *
 * It can be told (see told.h) to misbehave: a call's name without "rknn_", and the code it returns;
 * "hang 0" in rknn_run; "slow N" milliseconds in it; "corrupt I" fills output I with noise; "short I"
 * says that output I is smaller than it is; "layout N" and "scale N" report that of every output;
 * "version N" reports version 1.N.0. "first 0" answers every input with the first recorded outputs. */
#include "model.h"
#include "told.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "2.5.0"
#endif
#define API __attribute__((visibility("default")))

enum { OK, FAIL = -1, PARAM = -5, MODEL = -6, CONTEXT = -7, INPUT = -8, OUTPUT = -9 };
enum { IN_OUT_NUM, INPUT_ATTR, OUTPUT_ATTR, SDK_VERSION = 5 };
enum { NCHW, NHWC };
enum { FLOAT16 = 1, INT8 = 2, UINT8 = 3 };
enum { AFFINE = 2 };
enum { CONTEXTS = 64 };

const char version_mark[] = "librknnrt version: " VERSION " (stand-in)";

struct attributes {
    uint32_t index, n_dims, dims[16];
    char name[256];
    uint32_t n_elems, size, fmt, type, qnt_type;
    int8_t fl;
    int32_t zp;
    float scale;
    uint32_t w_stride, size_with_stride;
    uint8_t pass_through;
    uint32_t h_stride;
};

struct given {
    uint32_t index;
    const void *buf;
    uint32_t size;
    uint8_t pass_through;
    uint32_t type, fmt;
};

struct wanted {
    uint8_t want_float, is_prealloc;
    uint32_t index;
    void *buf;
    uint32_t size;
};

struct weights {
    struct model model;
    char *recorded;
    size_t recorded_size;
    int users;
};

static struct context {
    struct weights *weights;
    int original;
    atomic_flag busy;
    char *input;
    const char *answer; /* in the recorded outputs; NULL for an unknown input */
    int ran;
} contexts[CONTEXTS]; /* a context's number is its place + 1 */

static struct context *context_of(uint64_t number) {
    if (number && number <= CONTEXTS && contexts[number - 1].weights) return &contexts[number - 1];
    note("no context %lu", (unsigned long)number);
    return NULL;
}

/* Every call on a context begins with this, and gives what it says where that is not OK. */
static int enter(struct context *context, const char *call) {
    long code;
    if (!context) return CONTEXT;
    if (atomic_flag_test_and_set(&context->busy)) {
        note("two threads on %ld", (long)(context - contexts) + 1);
        return FAIL;
    }
    if (!told(call, &code)) return OK;
    atomic_flag_clear(&context->busy);
    return (int)code;
}

static int leave(struct context *context, int code) {
    atomic_flag_clear(&context->busy);
    return code;
}

#define ENTER(call)                                                                                \
    struct context *context = context_of(number);                                                  \
    int entered = enter(context, call);                                                            \
    if (entered != OK) return entered

static int new_context(struct weights *weights, int original, uint64_t *number) {
    for (int i = 0; i < CONTEXTS; i++)
        if (!contexts[i].weights) {
            contexts[i] = (struct context){.weights = weights, .original = original};
            contexts[i].input = malloc(weights->model.input.elements);
            weights->users++;
            *number = i + 1;
            return OK;
        }
    return FAIL;
}

API int rknn_init(uint64_t *number, void *model, uint32_t size, uint32_t flag, void *extend) {
    long code;
    if (told("init", &code)) return (int)code;
    (void)flag, (void)extend; /* for those who ask for more than a model */
    struct weights *weights = calloc(1, sizeof *weights);
    if (read_model(model, size, &weights->model)) {
        free(weights);
        return MODEL;
    }
    weights->recorded = read_recorded(&weights->recorded_size);
    int result = new_context(weights, 1, number);
    note("init %d", (int)*number);
    return result;
}

API int rknn_dup_context(uint64_t *from, uint64_t *number_out) {
    uint64_t number = *from;
    ENTER("dup_context");
    int result = new_context(context->weights, 0, number_out);
    note("dup %d from %d", (int)*number_out, (int)number);
    return leave(context, result);
}

API int rknn_destroy(uint64_t number) {
    ENTER("destroy");
    struct weights *weights = context->weights;
    note("destroy %d", (int)number);
    if (--weights->users && context->original) note("weights gone before their copies");
    free(context->input);
    context->weights = NULL;
    if (!weights->users) {
        free(weights->recorded);
        free(weights);
    }
    return leave(context, OK);
}

API int rknn_set_core_mask(uint64_t number, int mask) {
    ENTER("set_core_mask");
    note("mask %d of %d", mask, (int)number);
    return leave(context, mask == 1 || mask == 2 || mask == 4 ? OK : PARAM);
}

static int describe_input(const struct model *model, struct attributes *to) {
    const uint32_t *dims = model->input.dims, nhwc[4] = {dims[0], dims[2], dims[3], dims[1]};
    memcpy(to->dims, nhwc, sizeof nhwc);
    snprintf(to->name, sizeof to->name, "%s", model->input.name);
    to->n_dims = 4;
    to->n_elems = to->size = model->input.elements;
    to->fmt = NHWC;
    to->type = INT8;
    to->qnt_type = AFFINE;
    to->zp = -128;
    to->scale = 1 / 255.0f;
    to->w_stride = dims[3];
    return OK;
}

static int describe_output(const struct model *model, struct attributes *to) {
    if (to->index >= model->outputs) return PARAM;
    const struct tensor *tensor = &model->output[to->index];
    long value;
    memcpy(to->dims, tensor->dims, sizeof tensor->dims);
    snprintf(to->name, sizeof to->name, "%s", tensor->name);
    to->n_dims = 4;
    to->n_elems = tensor->elements;
    to->size = tensor->elements * (tensor->quantized ? 1 : 2);
    to->fmt = told("layout", &value) ? (uint32_t)value : NCHW;
    to->type = tensor->quantized ? INT8 : FLOAT16;
    to->qnt_type = tensor->quantized ? AFFINE : 0;
    to->zp = tensor->zero_point;
    to->scale = told("scale", &value) ? (float)value : tensor->scale;
    return OK;
}

static int say_version(char *text) {
    long minor;
    snprintf(text + 256, 256, "0.9.8");
    if (told("version", &minor))
        snprintf(text, 256, "1.%ld.0 (stand-in)", minor);
    else
        snprintf(text, 256, "%s", strchr(version_mark, ':') + 2);
    return OK;
}

static int answer_query(const struct model *model, int what, void *info, uint32_t size) {
    if (what == IN_OUT_NUM && size == 8) {
        ((uint32_t *)info)[0] = 1;
        ((uint32_t *)info)[1] = model->outputs;
        return OK;
    }
    if (what == INPUT_ATTR && size == sizeof(struct attributes)) return describe_input(model, info);
    if (what == OUTPUT_ATTR && size == sizeof(struct attributes))
        return describe_output(model, info);
    return what == SDK_VERSION && size == 512 ? say_version(info) : PARAM;
}

API int rknn_query(uint64_t number, int what, void *info, uint32_t size) {
    ENTER("query");
    return leave(context, answer_query(&context->weights->model, what, info, size));
}

API int rknn_inputs_set(uint64_t number, uint32_t count, const struct given *input) {
    ENTER("inputs_set");
    uint32_t size = context->weights->model.input.elements;
    int right = count == 1 && !input->index && input->buf && input->size == size &&
                !input->pass_through && input->type == UINT8 && input->fmt == NHWC;
    if (right) memcpy(context->input, input->buf, size);
    context->ran = 0;
    return leave(context, right ? OK : INPUT);
}

static size_t bytes_of(const struct tensor *tensor) {
    return (size_t)tensor->elements * (tensor->quantized ? 1 : sizeof(float));
}

static const char *look_up(const struct context *context) {
    const struct weights *own = context->weights;
    size_t before = own->model.input.elements, record = before;
    for (uint32_t i = 0; i < own->model.outputs; i++) record += bytes_of(&own->model.output[i]);
    int any = told("first", NULL);
    for (size_t at = 0; at + record <= own->recorded_size; at += record)
        if (any || !memcmp(own->recorded + at, context->input, before))
            return own->recorded + at + before;
    return NULL;
}

API int rknn_run(uint64_t number, void *extend) {
    long ms;
    ENTER("run");
    (void)extend;
    if (told("hang", NULL))
        for (;;) pause();
    if (told("slow", &ms)) {
        struct timespec time = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&time, NULL);
    }
    note("run %d", (int)number);
    context->answer = look_up(context);
    context->ran = 1;
    return leave(context, OK);
}

/* What is given where no answer was recorded. */
static void lowest(const struct tensor *tensor, int want_float, void *to) {
    float value = tensor->quantized ? (-128 - tensor->zero_point) * tensor->scale : 0;
    if (!want_float) memset(to, -128, tensor->elements);
    for (uint32_t i = 0; want_float && i < tensor->elements; i++) ((float *)to)[i] = value;
}

static void dequantize(const struct tensor *tensor, const int8_t *from, float *to) {
    float zero = (float)tensor->zero_point, scale = tensor->scale;
    for (uint32_t i = 0; i < tensor->elements; i++) to[i] = ((float)from[i] - zero) * scale;
}

static void fill(const struct tensor *tensor, const char *answer, const struct wanted *to) {
    if (!answer)
        lowest(tensor, to->want_float, to->buf);
    else if (tensor->quantized && to->want_float)
        dequantize(tensor, (const int8_t *)answer, to->buf);
    else
        memcpy(to->buf, answer, bytes_of(tensor));
}

static void corrupt(struct wanted *output) {
    unsigned state = 1;
    for (uint32_t i = 0; i < output->size; i++) {
        state = state * 1664525 + 1013904223;
        ((unsigned char *)output->buf)[i] = state >> 24;
    }
}

static int give(const struct context *context, struct wanted *output) {
    const struct model *model = &context->weights->model;
    const char *answer = context->answer;
    long which;
    if (output->index >= model->outputs) return OUTPUT;
    const struct tensor *tensor = &model->output[output->index];
    for (uint32_t i = 0; answer && i < output->index; i++) answer += bytes_of(&model->output[i]);
    uint32_t size = tensor->elements * (output->want_float ? sizeof(float) : 1);
    if (!output->want_float && !tensor->quantized) return OUTPUT; /* float16 is not recorded */
    if (output->is_prealloc && (!output->buf || output->size < size)) return OUTPUT;
    if (!output->is_prealloc) output->buf = malloc(size);
    output->size = size;
    fill(tensor, answer, output);
    if (told("corrupt", &which) && which == output->index) corrupt(output);
    if (told("short", &which) && which == output->index) output->size /= 2;
    return OK;
}

API int rknn_outputs_get(uint64_t number, uint32_t count, struct wanted *outputs, void *extend) {
    ENTER("outputs_get");
    int result = context->ran && count == context->weights->model.outputs ? OK : OUTPUT;
    (void)extend;
    for (uint32_t i = 0; result == OK && i < count; i++) result = give(context, &outputs[i]);
    return leave(context, result);
}

API int rknn_outputs_release(uint64_t number, uint32_t count, struct wanted *outputs) {
    ENTER("outputs_release");
    for (uint32_t i = 0; i < count; i++)
        if (!outputs[i].is_prealloc) {
            free(outputs[i].buf);
            outputs[i].buf = NULL;
        }
    return leave(context, OK);
}

/* The vendor's Python package looks for it; it is called for models of several shapes only. */
API int rknn_set_input_shapes(uint64_t number, uint32_t count, const struct attributes *inputs) {
    (void)count, (void)inputs;
    ENTER("set_input_shapes");
    return leave(context, PARAM);
}
