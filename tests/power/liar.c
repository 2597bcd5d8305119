/* Loaded into the gateway with LD_PRELOAD, to prove that the cuts find a program that does not sync. Of the syncs of
 * gateway.db and what stands beside it, every LIAR_EVERY-th (all when it is not set) is a lie:
 *
 *   LIAR=skip       nothing is done
 *   LIAR=no-flush   the pages are written to the disk, but the disk is not told to keep them
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int lies(int fd) {
    static int count;
    char link[64], path[4096];
    const char *every = getenv("LIAR_EVERY");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    if (!strstr(path, "/gateway.db")) return 0;
    return __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) % (every ? atoi(every) : 1) == 0;
}

static int synced(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *lie = getenv("LIAR");
    if (!lie || !lies(fd)) return real(fd);
    if (strcmp(lie, "no-flush")) return 0;
    return sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
