/* Reads a .rknn file as far as the stand-in needs it: the JSON behind the body names the tensors and
 * their shapes, and in the body, in clear, stands a table of the outputs' ranges. */
#define _GNU_SOURCE
#include "model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 64, NEWEST = 6 };

/* A walk over JSON text that ends with a zero. Each takes where a value begins, and NULL for none. */

static const char *blank(const char *at) {
    return at ? at + strspn(at, " \t\r\n") : NULL;
}

static const char *behind_string(const char *at) {
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1]) at++;
    return *at ? at + 1 : NULL;
}

static const char *behind(const char *at) {
    int depth = 0;
    if (!(at = blank(at))) return NULL;
    do {
        if (!*at) return NULL;
        if (*at == '"') {
            if (!(at = behind_string(at))) return NULL;
            continue;
        }
        if (strchr("[{", *at)) depth++;
        if (strchr("]}", *at)) depth--;
        at++;
        if (!depth && strchr(",]}", *at)) break;
    } while (depth || !strchr(",]} \t\r\n", *at));
    return at;
}

static const char *item(const char *array, int index) {
    const char *at = blank(array);
    if (!at || *at != '[' || *(at = blank(at + 1)) == ']') return NULL;
    for (; index; index--) {
        at = blank(behind(at));
        if (!at || *at != ',') return NULL;
        at++;
    }
    return blank(at);
}

static const char *member(const char *object, const char *key) {
    const char *at = blank(object);
    size_t length = strlen(key);
    if (!at || *at != '{') return NULL;
    do {
        const char *name = blank(at + 1), *value;
        if (!name || *name != '"') return NULL;
        value = blank(behind_string(name));
        if (!value || *value != ':') return NULL;
        value = blank(value + 1);
        if (!strncmp(name + 1, key, length) && name[length + 1] == '"') return value;
        at = blank(behind(value));
    } while (at && *at == ',');
    return NULL;
}

static int is(const char *value, const char *text) {
    size_t length = strlen(text);
    return value && *value == '"' && !strncmp(value + 1, text, length) && value[length + 1] == '"';
}

static int number(const char *value) {
    return value ? atoi(value) : -1;
}

/* The ranges: 'NAME': {... 'min': [x], 'max': [y], ...}. Without them, all that a sigmoid gives. */

static double bound(const char *table, const char *key, double none) {
    const char *at = strstr(table, key);
    return at ? atof(at + strlen(key)) : none;
}

static void read_range(const char *body, size_t size, struct tensor *tensor) {
    char name[NAME + 16];
    const char *table = memmem(body, size, "'quant_tab'", 11);
    snprintf(name, sizeof name, "'%s': {", tensor->name);
    if (table) table = memmem(table, size - (table - body), name, strlen(name));
    double least = fmin(0, table ? bound(table, "'min': [", 0) : 0);
    double most = fmax(0, table ? bound(table, "'max': [", 1) : 1);
    if (most > 0.999 && most < 1) most = 1; /* as toolkit 2.5.0 does with a sigmoid's */
    tensor->scale = (float)((most - least) / 255);
    tensor->zero_point = (int32_t)lround(-least / tensor->scale) - 128;
}

static int read_tensor(const char *json, int id, struct tensor *tensor) {
    const char *all = member(json, "norm_tensor"), *own, *url;
    for (int i = 0; (own = item(all, i)); i++)
        if (number(member(own, "tensor_id")) == id) break;
    if (!(url = member(own, "url")) || *url != '"') return -1;
    snprintf(tensor->name, NAME, "%.*s", (int)(behind_string(url) - url - 2), url + 1);
    tensor->elements = 1;
    for (int i = 0; i < 4; i++) {
        int dim = number(item(member(own, "size"), i));
        if (dim < 1 || dim > 1 << 16) return -1;
        tensor->elements *= tensor->dims[i] = dim;
    }
    tensor->quantized = is(member(member(own, "dtype"), "vx_type"), "int8");
    return 0;
}

static int read_graph(const char *json, struct model *model) {
    const char *graph = member(json, "graph"), *edge;
    int inputs = 0;
    memset(model, 0, sizeof *model);
    for (int i = 0; (edge = item(graph, i)); i++) {
        int id = number(member(edge, "right_tensor_id"));
        if (is(member(edge, "left"), "input") && (inputs++ || read_tensor(json, id, &model->input)))
            return -1;
        if (is(member(edge, "left"), "output") &&
            (model->outputs == OUTPUTS || read_tensor(json, id, &model->output[model->outputs++])))
            return -1;
    }
    return inputs == 1 && model->outputs ? 0 : -1;
}

int read_model(const char *data, size_t size, struct model *model) {
    uint64_t version, body, length;
    if (size < HEADER + 8 || memcmp(data, "RKNN", 4)) return -1;
    memcpy(&version, data + 8, 8);
    memcpy(&body, data + 16, 8);
    if (version > NEWEST || body > size - HEADER - 8) return -1;
    memcpy(&length, data + HEADER + body, 8);
    if (length > size - HEADER - 8 - body) return -1;
    char *json = strndup(data + HEADER + body + 8, length);
    int result = json ? read_graph(json, model) : -1;
    char *text = malloc(body + 1); /* with a zero behind it, for strstr */
    memcpy(text, data + HEADER, body);
    text[body] = 0;
    for (uint32_t i = 0; !result && i < model->outputs; i++)
        if (model->output[i].quantized) read_range(text, body, &model->output[i]);
    free(text);
    free(json);
    return result;
}
