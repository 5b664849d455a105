/* Loaded before libc: the n-th write, fsync or rename below a directory fails, once or from then on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX];
static long calls, fail_at;
static int fail_errno, for_ever;

/* n = 0: nothing fails. */
void failing_writes_begin(const char *directory, long n, int error, int from_then_on)
{
    snprintf(below, sizeof below, "%s", directory);
    calls = 0;
    fail_at = n;
    fail_errno = error;
    for_ever = from_then_on;
}

long failing_writes_calls(void) { return calls; }

static int fails_at(const char *path)
{
    if (below[0] == 0 || strncmp(path, below, strlen(below)) != 0)
        return 0;
    calls++;
    if (fail_at == 0 || calls < fail_at || (calls > fail_at && !for_ever))
        return 0;
    errno = fail_errno;
    return 1;
}

static int fails(int descriptor)
{
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails_at(path);
}

#define REAL(result, name, ...)                                                                                        \
    static result (*real)(__VA_ARGS__);                                                                                \
    if (!real)                                                                                                         \
    real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int descriptor, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return fails(descriptor) ? -1 : real(descriptor, data, size);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    return fails(descriptor) ? -1 : real(descriptor, parts, count);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return fails(descriptor) ? -1 : real(descriptor, data, size, offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return fails(descriptor) ? -1 : real(descriptor, data, size, offset);
}

int fsync(int descriptor)
{
    REAL(int, "fsync", int);
    return fails(descriptor) ? -1 : real(descriptor);
}

int fdatasync(int descriptor)
{
    REAL(int, "fdatasync", int);
    return fails(descriptor) ? -1 : real(descriptor);
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return fails_at(to) ? -1 : real(from, to);
}
