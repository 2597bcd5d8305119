/* Loaded into the gateway with LD_PRELOAD by tests and benches: a slow or failing disk without root, and a record of the
 * order in which it writes, syncs and answers. Knows file names and sockets, nothing of the gateway.
 *
 *   FAULTS_SYNC_DELAY_US=N   every fsync and fdatasync takes N microseconds longer
 *   FAULTS_DIR=DIR           while DIR/fail-sync exists, syncs fail with EIO; while DIR/fail-write exists, writes to
 *                            files fail with ENOSPC; while DIR/full exists, those fail that would make a file longer
 *                            (but SQLite's shared memory); while DIR/full-but-for-ballast exists, the same, until a file
 *                            named ballast beside it is gone; while DIR/free-mib exists, file systems say that they
 *                            have as many MiB free as it says, of 16 GiB; while DIR/hold-sync exists, syncs do not return; while
 *                            DIR/read-only exists, nothing below a directory named state can be changed, also through
 *                            files that are open already, as after an error that ext4 answers so; while
 *                            DIR/clock-not-set exists, the wall clock shows a few minutes after 1970 began; while
 *                            DIR/clock-ahead exists, as many seconds more as it says;
 *                            DIR/fail-clock makes the time of day fail once on the main thread, and is gone then: Rust
 *                            answers that with a panic
 *   FAULTS_LOG=FILE          one line an event: nanoseconds, what, file or "socket", bytes or result
 *   FAULTS_COUNT=FILE        after each sync, the number of syncs so far as eight bytes at offset 0, and of bytes written
 *                            to files at offset 8
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static long sync_delay_us;
static const char *directory;
static int log_fd = -1;
static volatile uint64_t *counts;

__attribute__((constructor)) static void start(void) {
    const char *text = getenv("FAULTS_SYNC_DELAY_US");
    sync_delay_us = text ? atol(text) : 0;
    directory = getenv("FAULTS_DIR");
    if ((text = getenv("FAULTS_LOG"))) log_fd = open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if ((text = getenv("FAULTS_COUNT"))) {
        int fd = open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0 && ftruncate(fd, 16) == 0) {
            void *map = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (map != MAP_FAILED) counts = map;
        }
    }
}

/* The function that this one stands before, looked up once: the calls of a bench are to cost what they cost. */
#define REAL(name)                                                             \
    ({                                                                         \
        static __typeof__(&name) real;                                         \
        if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);          \
        real;                                                                  \
    })

static void pause_us(long us) {
    struct timespec wait = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&wait, NULL);
}

static int asked(const char *what) {
    char path[4096];
    if (!directory) return 0;
    snprintf(path, sizeof path, "%s/%s", directory, what);
    return access(path, F_OK) == 0;
}

/* The number in a file of the directory; 0 without one. */
static long number_in(const char *name) {
    char path[4096], text[32] = "";
    if (!directory) return 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!directory) return REAL(clock_gettime)(clock, now);
    if (clock == CLOCK_REALTIME && syscall(SYS_gettid) == getpid() && asked("fail-clock")) {
        char path[4096];
        snprintf(path, sizeof path, "%s/fail-clock", directory);
        unlink(path);
        errno = EINVAL;
        return -1;
    }
    int result = REAL(clock_gettime)(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) {
        now->tv_sec += number_in("clock-ahead");
        if (asked("clock-not-set")) now->tv_sec %= 1000;
    }
    return result;
}

static int is_socket(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static int is_file(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

static int path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    path[length > 0 ? length : 0] = 0;
    return length > 0;
}

/* Whether a write would make a file longer; SQLite's shared memory is left alone. */
static int grows(int fd, off_t end) {
    struct stat status;
    char path[3500];
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || end <= status.st_size) return 0;
    path_of(fd, path, sizeof path);
    size_t length = strlen(path);
    return length < 4 || strcmp(path + length - 4, "-shm") != 0;
}

/* Whether there is no room for this write. The ballast is looked for in the directory of the file itself. */
static int no_room(int fd, off_t end) {
    char path[3500], *slash;
    if (asked("full")) return grows(fd, end);
    if (!asked("full-but-for-ballast") || !grows(fd, end) || !path_of(fd, path, sizeof path - 10)) return 0;
    if ((slash = strrchr(path, '/'))) strcpy(slash, "/ballast");
    return access(path, F_OK) == 0;
}

static int is_read_only(const char *path) {
    if (!strstr(path, "/state/") || !asked("read-only")) return 0;
    errno = EROFS;
    return 1;
}

static int is_file_read_only(int fd) {
    char path[3500];
    return directory && path_of(fd, path, sizeof path) && is_read_only(path);
}

static int opened(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    int is_new = (flags & O_CREAT) && access(path, F_OK) != 0;
    // What is there already is told first.
    int is_there = (flags & O_CREAT) && (flags & O_EXCL) && !is_new;
    if (!is_there && ((flags & O_ACCMODE) != O_RDONLY || is_new) && is_read_only(path)) return -1;
    return real(path, flags, mode);
}

#define OPEN(name)                                            \
    int name(const char *path, int flags, ...) {              \
        va_list more;                                         \
        va_start(more, flags);                                \
        mode_t mode = flags & O_CREAT ? va_arg(more, int) : 0; \
        va_end(more);                                         \
        return opened(REAL(name), path, flags, mode);         \
    }
OPEN(open)
OPEN(open64)

int access(const char *path, int mode) {
    return (mode & W_OK) && is_read_only(path) ? -1 : REAL(access)(path, mode);
}

int unlink(const char *path) {
    return is_read_only(path) ? -1 : REAL(unlink)(path);
}

int rename(const char *from, const char *to) {
    return is_read_only(to) ? -1 : REAL(rename)(from, to);
}

int ftruncate(int fd, off_t length) { return is_file_read_only(fd) ? -1 : REAL(ftruncate)(fd, length); }
int ftruncate64(int fd, off64_t length) { return is_file_read_only(fd) ? -1 : REAL(ftruncate64)(fd, length); }

static int told(int result, struct statvfs *found) {
    if (result != 0 || !asked("free-mib")) return result;
    found->f_frsize = found->f_bsize = 1024;
    found->f_blocks = 16 * 1024 * 1024;
    found->f_bfree = found->f_bavail = number_in("free-mib") * 1024;
    return result;
}

int statvfs(const char *path, struct statvfs *found) {
    return told(REAL(statvfs)(path, found), found);
}

int statvfs64(const char *path, struct statvfs64 *found) {
    return told(REAL(statvfs64)(path, found), (struct statvfs *)found);
}

static int set_aside(int (*real)(int, int, off_t, off_t), int fd, int mode, off_t offset, off_t length) {
    if (is_file_read_only(fd)) return -1;
    if (asked("full") && grows(fd, offset + length)) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, mode, offset, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return set_aside(REAL(fallocate), fd, mode, offset, length); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return set_aside(REAL(fallocate64), fd, mode, offset, length); }

static void note(const char *what, int fd, long value) {
    char path[3500] = "socket", line[4096];
    struct timespec now;
    int saved = errno;
    if (log_fd < 0) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!is_socket(fd)) path_of(fd, path, sizeof path);
    int length = snprintf(line, sizeof line, "%lld %s %s %ld\n", now.tv_sec * 1000000000LL + now.tv_nsec, what, path, value);
    syscall(SYS_write, log_fd, line, length);
    errno = saved;
}

static int synced(int (*real)(int), int fd) {
    note("sync-begins", fd, 0);
    while (asked("hold-sync")) pause_us(1000);
    if (asked("fail-sync")) {
        note("sync-failed", fd, EIO);
        errno = EIO;
        return -1;
    }
    if (is_file_read_only(fd)) {
        note("sync-failed", fd, EROFS);
        errno = EROFS;
        return -1;
    }
    int result = real(fd);
    if (sync_delay_us) pause_us(sync_delay_us);
    if (counts) __atomic_add_fetch(&counts[0], 1, __ATOMIC_RELAXED);
    note("synced", fd, result);
    return result;
}

int fsync(int fd) { return synced(REAL(fsync), fd); }
int fdatasync(int fd) { return synced(REAL(fdatasync), fd); }

static ssize_t written(ssize_t (*real)(int, const void *, size_t, off_t), int fd, const void *bytes, size_t length,
                       off_t offset) {
    if ((asked("fail-write") && is_file(fd)) || no_room(fd, offset + (off_t)length)) {
        note("write-failed", fd, ENOSPC);
        errno = ENOSPC;
        return -1;
    }
    if (is_file_read_only(fd)) {
        note("write-failed", fd, EROFS);
        errno = EROFS;
        return -1;
    }
    ssize_t result = real(fd, bytes, length, offset);
    if (counts && result > 0) __atomic_add_fetch(&counts[1], result, __ATOMIC_RELAXED);
    note("written", fd, result);
    return result;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return written(REAL(pwrite), fd, bytes, length, offset); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) { return written(REAL(pwrite64), fd, bytes, length, offset); }

/* Whether this is worth a line of the record. */
static int sends(int fd) { return log_fd >= 0 && is_socket(fd); }

ssize_t write(int fd, const void *bytes, size_t length) {
    if (sends(fd)) note("sends", fd, length);
    else if (is_file_read_only(fd)) return -1;
    return REAL(write)(fd, bytes, length);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    note("sends", fd, length);
    return REAL(send)(fd, bytes, length, flags);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (sends(fd)) note("sends", fd, count);
    return REAL(writev)(fd, parts, count);
}
