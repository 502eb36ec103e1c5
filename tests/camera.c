/* A V4L2 camera for the tests, where there is none: loaded in front of the C library, it answers for
 * the device that CAMERA names. It knows YUYV at 640x480 and 320x240, 30 frames a second; each frame
 * is grey, brighter by one than the last. The file that CAMERA_MODE names says how it behaves:
 * "works", "busy", "gone" (unplugged), "silent", or "metadata" (a device that gives no pictures). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <unistd.h>

enum { FDS = 1024, BUFFERS = 8 };
static char ours[FDS];
static unsigned width = 640, height = 480, head, tail, queue[64], level = 16;
static void *memory[BUFFERS];

static int mode(const char *wanted) {
    char text[16] = "";
    FILE *file = fopen(getenv("CAMERA_MODE"), "r");
    if (file) {
        if (fscanf(file, "%15s", text) != 1) text[0] = 0;
        fclose(file);
    }
    return !strcmp(text, wanted);
}

static int fails(int error) {
    errno = error;
    return -1;
}

static int opened(const char *path, int flags, int permissions) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    int fd = real(path, flags, permissions);
    if (fd >= 0 && fd < FDS) ours[fd] = getenv("CAMERA") && !strcmp(path, getenv("CAMERA"));
    return fd;
}

#define PERMISSIONS(flags, last)                                                                   \
    va_list rest;                                                                                  \
    va_start(rest, last);                                                                          \
    int permissions = (flags) & O_CREAT ? va_arg(rest, int) : 0;                                   \
    va_end(rest)

int open(const char *path, int flags, ...) {
    PERMISSIONS(flags, flags);
    return opened(path, flags, permissions);
}

int open64(const char *path, int flags, ...) {
    PERMISSIONS(flags, flags);
    return opened(path, flags, permissions);
}

int close(int fd) {
    if (fd >= 0 && fd < FDS) ours[fd] = 0;
    return ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd);
}

static int capabilities(struct v4l2_capability *answer) {
    memset(answer, 0, sizeof *answer);
    strcpy((char *)answer->card, "for tests");
    answer->device_caps = mode("metadata") ? V4L2_CAP_META_CAPTURE : V4L2_CAP_VIDEO_CAPTURE;
    answer->device_caps |= V4L2_CAP_STREAMING;
    answer->capabilities = answer->device_caps | V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_DEVICE_CAPS;
    return 0;
}

static int format(struct v4l2_pix_format *pix, int set) {
    if (set) {
        if (mode("busy")) return fails(EBUSY);
        width = pix->width <= 320 ? 320 : 640;
        height = pix->width <= 320 ? 240 : 480;
    }
    pix->width = width, pix->height = height, pix->pixelformat = V4L2_PIX_FMT_YUYV;
    pix->bytesperline = width * 2, pix->sizeimage = width * height * 2;
    pix->field = V4L2_FIELD_NONE;
    return 0;
}

static int described(struct v4l2_buffer *buffer) {
    if (buffer->index >= BUFFERS) return fails(EINVAL);
    buffer->length = width * height * 2, buffer->m.offset = buffer->index * 0x100000;
    return 0;
}

static int taken(struct v4l2_buffer *buffer) {
    if (mode("gone")) return fails(ENODEV);
    if (mode("silent") || head == tail) return fails(EAGAIN);
    usleep(20000);
    buffer->index = queue[tail++ % 64];
    described(buffer);
    buffer->bytesused = buffer->length;
    for (unsigned i = 0; i < buffer->length; i += 2) {
        ((unsigned char *)memory[buffer->index])[i] = level;
        ((unsigned char *)memory[buffer->index])[i + 1] = 128;
    }
    level = level < 235 ? level + 1 : 16;
    return 0;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *value = va_arg(rest, void *);
    va_end(rest);
    if (fd < 0 || fd >= FDS || !ours[fd])
        return ((int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl"))(fd, request, value);
    switch ((unsigned)request) {
    case VIDIOC_QUERYCAP: return capabilities(value);
    case VIDIOC_G_FMT: return format(&((struct v4l2_format *)value)->fmt.pix, 0);
    case VIDIOC_S_FMT: return format(&((struct v4l2_format *)value)->fmt.pix, 1);
    case VIDIOC_S_PARM:
    case VIDIOC_G_PARM:
        ((struct v4l2_streamparm *)value)->parm.capture.timeperframe = (struct v4l2_fract){1, 30};
        return 0;
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *asked = value;
        if (asked->count > BUFFERS) asked->count = BUFFERS;
        head = tail = 0;
        return 0;
    }
    case VIDIOC_QUERYBUF: return described(value);
    case VIDIOC_QBUF: queue[head++ % 64] = ((struct v4l2_buffer *)value)->index; return 0;
    case VIDIOC_DQBUF: return taken(value);
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF: return 0;
    default: return fails(EINVAL);
    }
}

static void *mapped(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap64");
    if (fd < 0 || fd >= FDS || !ours[fd]) return real(at, length, protection, flags, fd, offset);
    flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *got = real(NULL, length, PROT_READ | PROT_WRITE, flags, -1, 0);
    return memory[offset / 0x100000] = got;
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return mapped(at, length, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return mapped(at, length, protection, flags, fd, offset);
}

int select(int count, fd_set *in, fd_set *out, fd_set *other, struct timeval *wait) {
    int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *) = dlsym(RTLD_NEXT, "select");
    if (in && count > 0 && count <= FDS && ours[count - 1] && mode("silent")) {
        sleep(wait->tv_sec);
        return 0;
    }
    return real(count, in, out, other, wait);
}
