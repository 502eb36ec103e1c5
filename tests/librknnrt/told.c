#include "told.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *file(const char *name, char path[4096]) {
    const char *folder = getenv("RKNN_STAND_IN");
    snprintf(path, 4096, "%s/%s", folder ? folder : "/nowhere", name);
    return path;
}

int told(const char *what, long *number) {
    char path[4096], word[64];
    long value;
    int found = 0;
    FILE *lines = fopen(file("told", path), "r");
    while (lines && !found && fscanf(lines, "%63s %ld", word, &value) == 2)
        if ((found = !strcmp(word, what)) && number) *number = value;
    if (lines) fclose(lines);
    return found;
}

void note(const char *format, ...) {
    char path[4096], line[256];
    int log = open(file("log", path), O_WRONLY | O_APPEND);
    if (log < 0) return;
    va_list rest;
    va_start(rest, format);
    int length = vsnprintf(line, sizeof line - 1, format, rest);
    va_end(rest);
    line[length] = '\n';
    if (write(log, line, length + 1) < 0) abort();
    close(log);
}

char *read_recorded(size_t *size) {
    char path[4096], *data = NULL;
    FILE *recorded = fopen(file("recorded", path), "rb");
    *size = 0;
    if (!recorded) return NULL;
    if (!fseek(recorded, 0, SEEK_END) && (data = malloc(*size = ftell(recorded)))) {
        rewind(recorded);
        if (fread(data, 1, *size, recorded) != *size) abort();
    }
    fclose(recorded);
    return data;
}
