// A disk that fails, for one process and one folder: loaded with LD_PRELOAD.
//
// DISK_FOLDER is the folder, DISK_ORDER a file of three 64-bit numbers that the test may change at any time: the mode (0 well,
// 1 full, 2 read-only, 3 broken); in mode 1, by how many bytes files may still grow; how often it has refused something.
// A full disk takes what lies inside a file; removing the file `reserve` gives its size free, as it would on a real one.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile long long *order;
static char folder[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_ORDER"), *inside = getenv("DISK_FOLDER");
    if (!path || !inside || !realpath(inside, folder)) _exit(99);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    void *page = fd < 0 ? MAP_FAILED : mmap(0, 24, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) _exit(99);
    order = page;
}

static int refuse(int error) {
    __atomic_add_fetch(&order[2], 1, __ATOMIC_SEQ_CST);
    errno = error;
    return -1;
}

static int inside(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t prefix = strlen(folder);
    return length > (ssize_t)prefix && !memcmp(path, folder, prefix) && path[prefix] == '/';
}

// True when a write of `count` bytes at `offset` is to be refused.
static int refused(int fd, size_t count, off_t offset) {
    if (!order || !order[0] || !inside(fd)) return 0;
    if (order[0] == 2) return refuse(EROFS);
    if (order[0] == 3) return refuse(EIO);
    struct stat file;
    if (fstat(fd, &file)) return 0;
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR);
    long long growth = (long long)offset + (long long)count - file.st_size;
    if (growth <= 0) return 0;
    if (growth > order[1]) return refuse(ENOSPC);
    order[1] -= growth;
    return 0;
}

ssize_t write(int fd, const void *data, size_t count) {
    return refused(fd, count, -1) ? -1 : syscall(SYS_write, fd, data, count);
}
ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) {
    return refused(fd, count, offset) ? -1 : syscall(SYS_pwrite64, fd, data, count, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t count, off_t offset) { return pwrite(fd, data, count, offset); }

static int syncing(int fd) { return order && (order[0] == 2 || order[0] == 3) && inside(fd) ? refuse(EIO) : 0; }
int fsync(int fd) { return syncing(fd) ? -1 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return syncing(fd) ? -1 : syscall(SYS_fdatasync, fd); }

int unlink(const char *path) {
    struct stat file;
    const char *name = strrchr(path, '/');
    int reserve = name && !strcmp(name, "/reserve") && !stat(path, &file);
    int done = syscall(SYS_unlink, path);
    if (!done && reserve && order) order[1] += file.st_size;
    return done;
}
