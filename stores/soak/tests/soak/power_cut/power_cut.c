/* A library to preload. It simulates power cuts: a shadow folder contains a copy of each file as of the file's last sync.
 *
 * KLIKIT_POWER_CUT_FOLDER is the canonical path of the folder, and KLIKIT_POWER_CUT_SHADOW is the folder for the copies.
 * The library copies what was written since the last sync before a sync returns. With KLIKIT_POWER_CUT_IGNORES_LOG, syncs
 * of SQLite's log succeed but copy nothing, as on a disk that ignores syncs. A file that was never synced has no copy. The
 * copy of a deleted file stays until the folder is synced. Shared memory (-shm) has no copy.
 *
 * The library intercepts the calls that SQLite makes. Other calls that change the files abort the process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FDS 4096
#define MOST_GONE 16

struct range {
    off_t start, end;
};

struct file {
    char name[NAME_MAX + 1];
    dev_t dev;
    ino_t ino;
    int deleted;
    /* The shortest length since the last sync. Behind it, the copy is outdated. */
    off_t shortest;
    /* The ranges that were written since the last sync. */
    struct range *dirty;
    size_t count, room;
    struct file *next;
};

static const char *folder, *shadow;
static int ignores_log;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct file *files;
static struct file the_folder;
static struct file *by_fd[MOST_FDS];
/* The names of files that were deleted since the folder was last synced. */
static char gone[MOST_GONE][NAME_MAX + 1];
static int gone_count;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void fail(const char *what)
{
    fprintf(stderr, "power_cut: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void)
{
    folder = getenv("KLIKIT_POWER_CUT_FOLDER");
    shadow = getenv("KLIKIT_POWER_CUT_SHADOW");
    ignores_log = getenv("KLIKIT_POWER_CUT_IGNORES_LOG") != NULL;
    if (!folder || !shadow)
        fail("KLIKIT_POWER_CUT_FOLDER or KLIKIT_POWER_CUT_SHADOW is not set");
}

/* Returns the name of a file in the folder, or NULL for other files and for shared memory. */
static const char *name_of(const char *path)
{
    if (!folder)
        return NULL; /* The constructor has not run yet. */
    size_t length = strlen(folder);
    if (strncmp(path, folder, length) != 0 || path[length] != '/' || strchr(path + length + 1, '/'))
        return NULL;
    const char *name = path + length + 1;
    size_t rest = strlen(name);
    return rest > 4 && strcmp(name + rest - 4, "-shm") == 0 ? NULL : name;
}

static void shadow_path(char *path, const char *name)
{
    if (snprintf(path, PATH_MAX, "%s/%s", shadow, name) >= PATH_MAX)
        fail("the path is too long");
}

static struct file *file_of(int fd)
{
    return fd >= 0 && fd < MOST_FDS ? by_fd[fd] : NULL;
}

/* Records that a range was written. */
static void touch(struct file *file, off_t start, off_t end)
{
    if (file->count > 0 && file->dirty[file->count - 1].end == start) {
        file->dirty[file->count - 1].end = end;
        return;
    }
    if (file->count == file->room) {
        file->room = file->room ? 2 * file->room : 64;
        file->dirty = realloc(file->dirty, file->room * sizeof *file->dirty);
        if (!file->dirty)
            fail("memory");
    }
    file->dirty[file->count++] = (struct range){start, end};
}

static void copy(int from, int to, struct range range)
{
    static char buffer[1 << 16];
    while (range.start < range.end) {
        off_t left = range.end - range.start;
        size_t size = left < (off_t)sizeof buffer ? (size_t)left : sizeof buffer;
        ssize_t got = pread(from, buffer, size, range.start);
        if (got < 0)
            fail("pread");
        if (got == 0)
            return; /* The file was truncated after the write. */
        if (REAL(pwrite)(to, buffer, (size_t)got, range.start) != got)
            fail("pwrite");
        range.start += got;
    }
}

/* Updates the copy of a file that was synced. */
static void keep(int fd, struct file *file)
{
    char path[PATH_MAX];
    struct stat now;
    if (file->deleted)
        return;
    shadow_path(path, file->name);
    int to = REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (to < 0 || fstat(fd, &now) != 0)
        fail(path);
    if (REAL(ftruncate)(to, file->shortest) != 0 || REAL(ftruncate)(to, now.st_size) != 0)
        fail("ftruncate");
    for (size_t i = 0; i < file->count; i++)
        copy(fd, to, file->dirty[i]);
    REAL(close)(to);
    file->count = 0;
    file->shortest = now.st_size;
    for (int i = 0; i < gone_count; i++)
        if (strcmp(gone[i], file->name) == 0)
            gone[i][0] = 0;
}

/* Deletes the copies of deleted files, after a sync of the folder. */
static void forget_deleted(void)
{
    char path[PATH_MAX];
    for (int i = 0; i < gone_count; i++) {
        if (!gone[i][0])
            continue;
        shadow_path(path, gone[i]);
        if (REAL(unlink)(path) != 0 && errno != ENOENT)
            fail(path);
    }
    gone_count = 0;
}

static void opened(int fd, const char *path, int flags, int was_there)
{
    struct stat found;
    if (folder && strcmp(path, folder) == 0 && fd < MOST_FDS) {
        by_fd[fd] = &the_folder;
        return;
    }
    const char *name = name_of(path);
    if (!name)
        return;
    if (fd >= MOST_FDS || (flags & O_APPEND) || fstat(fd, &found) != 0)
        fail(path);
    struct file *file = files;
    while (file && (file->deleted || file->dev != found.st_dev || file->ino != found.st_ino))
        file = file->next;
    if (!file) {
        file = calloc(1, sizeof *file);
        if (!file)
            fail("memory");
        snprintf(file->name, sizeof file->name, "%s", name);
        file->dev = found.st_dev;
        file->ino = found.st_ino;
        /* A file that existed when the process started was restored from its copy, so its content is synced. */
        file->shortest = was_there ? found.st_size : 0;
        file->next = files;
        files = file;
    }
    if (flags & O_TRUNC)
        file->shortest = 0;
    by_fd[fd] = file;
}

static int open_as(int (*real)(int, const char *, int, ...), int at, const char *path, int flags, mode_t mode)
{
    pthread_mutex_lock(&mutex);
    int was_there = access(path, F_OK) == 0;
    int fd = real(at, path, flags, mode);
    int error = errno;
    if (fd >= 0)
        opened(fd, path, flags, was_there);
    pthread_mutex_unlock(&mutex);
    errno = error;
    return fd;
}

static mode_t mode_of(int flags, va_list rest)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name, real)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                               \
    {                                                                                                                        \
        va_list rest;                                                                                                        \
        va_start(rest, flags);                                                                                               \
        mode_t mode = mode_of(flags, rest);                                                                                  \
        va_end(rest);                                                                                                        \
        return open_as(REAL(real), AT_FDCWD, path, flags, mode);                                                             \
    }
OPEN(open, openat)
OPEN(open64, openat64)

#define OPENAT(name)                                                                                                         \
    int name(int at, const char *path, int flags, ...)                                                                       \
    {                                                                                                                        \
        va_list rest;                                                                                                        \
        va_start(rest, flags);                                                                                               \
        mode_t mode = mode_of(flags, rest);                                                                                  \
        va_end(rest);                                                                                                        \
        return open_as(REAL(name), at, path, flags, mode);                                                                   \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd)
{
    pthread_mutex_lock(&mutex);
    if (file_of(fd))
        by_fd[fd] = NULL;
    int result = REAL(close)(fd);
    int error = errno;
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    if (!file_of(fd))
        return REAL(write)(fd, bytes, size);
    pthread_mutex_lock(&mutex);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t written = REAL(write)(fd, bytes, size);
    int error = errno;
    if (written > 0)
        touch(file_of(fd), at, at + written);
    pthread_mutex_unlock(&mutex);
    errno = error;
    return written;
}

#define PWRITE(name)                                                                                                         \
    ssize_t name(int fd, const void *bytes, size_t size, off_t at)                                                           \
    {                                                                                                                        \
        if (!file_of(fd))                                                                                                    \
            return REAL(name)(fd, bytes, size, at);                                                                          \
        pthread_mutex_lock(&mutex);                                                                                          \
        ssize_t written = REAL(name)(fd, bytes, size, at);                                                                   \
        int error = errno;                                                                                                   \
        if (written > 0)                                                                                                     \
            touch(file_of(fd), at, at + written);                                                                            \
        pthread_mutex_unlock(&mutex);                                                                                        \
        errno = error;                                                                                                       \
        return written;                                                                                                      \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define FTRUNCATE(name)                                                                                                      \
    int name(int fd, off_t size)                                                                                             \
    {                                                                                                                        \
        if (!file_of(fd))                                                                                                    \
            return REAL(name)(fd, size);                                                                                     \
        pthread_mutex_lock(&mutex);                                                                                          \
        int result = REAL(name)(fd, size);                                                                                   \
        int error = errno;                                                                                                   \
        if (result == 0 && size < file_of(fd)->shortest)                                                                     \
            file_of(fd)->shortest = size;                                                                                    \
        pthread_mutex_unlock(&mutex);                                                                                        \
        errno = error;                                                                                                       \
        return result;                                                                                                       \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

int unlink(const char *path)
{
    const char *name = name_of(path);
    if (!name)
        return REAL(unlink)(path);
    pthread_mutex_lock(&mutex);
    int result = REAL(unlink)(path);
    int error = errno;
    if (result == 0) {
        for (struct file *file = files; file; file = file->next)
            if (strcmp(file->name, name) == 0)
                file->deleted = 1;
        if (gone_count == MOST_GONE)
            fail("too many files were deleted");
        snprintf(gone[gone_count++], sizeof gone[0], "%s", name);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

static int is_log(const struct file *file)
{
    size_t length = strlen(file->name);
    return length > 4 && strcmp(file->name + length - 4, "-wal") == 0;
}

static void synced(int fd)
{
    pthread_mutex_lock(&mutex);
    struct file *file = file_of(fd);
    if (file == &the_folder)
        forget_deleted();
    else if (file && !(ignores_log && is_log(file)))
        keep(fd, file);
    pthread_mutex_unlock(&mutex);
}

#define SYNC(name)                                                                                                           \
    int name(int fd)                                                                                                         \
    {                                                                                                                        \
        int result = REAL(name)(fd);                                                                                         \
        if (result == 0)                                                                                                     \
            synced(fd);                                                                                                      \
        return result;                                                                                                       \
    }
SYNC(fsync)
SYNC(fdatasync)

/* Calls that SQLite does not make in this crate's configuration. They abort the process if they concern the folder. */
#define NOT(name, result, parameters, arguments, is_ours)                                                                    \
    result name parameters                                                                                                   \
    {                                                                                                                        \
        if (is_ours)                                                                                                         \
            fail(#name);                                                                                                     \
        return REAL(name) arguments;                                                                                         \
    }
NOT(rename, int, (const char *from, const char *to), (from, to), name_of(from) || name_of(to))
NOT(link, int, (const char *from, const char *to), (from, to), name_of(from) || name_of(to))
NOT(truncate, int, (const char *path, off_t size), (path, size), name_of(path))
NOT(truncate64, int, (const char *path, off_t size), (path, size), name_of(path))
NOT(creat, int, (const char *path, mode_t mode), (path, mode), name_of(path))
NOT(creat64, int, (const char *path, mode_t mode), (path, mode), name_of(path))
NOT(writev, ssize_t, (int fd, const struct iovec *parts, int count), (fd, parts, count), file_of(fd))
NOT(pwritev, ssize_t, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), file_of(fd))
NOT(pwritev64, ssize_t, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), file_of(fd))
NOT(fallocate, int, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size), file_of(fd))
NOT(posix_fallocate, int, (int fd, off_t at, off_t size), (fd, at, size), file_of(fd))
NOT(sync_file_range, int, (int fd, off_t at, off_t size, unsigned flags), (fd, at, size, flags), file_of(fd))
NOT(mmap, void *, (void *place, size_t size, int access, int flags, int fd, off_t at), (place, size, access, flags, fd, at),
    file_of(fd) && (access & PROT_WRITE) && (flags & MAP_SHARED))
NOT(mmap64, void *, (void *place, size_t size, int access, int flags, int fd, off_t at),
    (place, size, access, flags, fd, at), file_of(fd) && (access & PROT_WRITE) && (flags & MAP_SHARED))
