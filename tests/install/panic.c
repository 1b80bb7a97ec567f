// A panic in the library is caught at its boundary, however the library is linked. What panics is
// Rust's reading of a clock that fails, which cannot happen but for the clock of this program.
#define _GNU_SOURCE
#include <boxlite.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Thread_local bool broken;

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (broken) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_clock_gettime, clock, time);
}

int main(void)
{
    boxlite_runtime *runtime;
    boxlite_error *error;
    if (boxlite_runtime_open(NULL, &runtime, &error) != BOXLITE_OK) {
        fprintf(stderr, "%s\n", boxlite_error_message(error));
        return 1;
    }
    for (int i = 0; i < 3; i++) {
        broken = true;
        boxlite_status status = boxlite_dispatch(runtime, 10, NULL, &error);
        broken = false;
        if (status != BOXLITE_PANIC || !strstr(boxlite_error_message(error), "panicked")) {
            fprintf(stderr, "%s, not BOXLITE_PANIC\n", boxlite_status_name(status));
            return 1;
        }
        boxlite_error_free(error);
        // And life goes on.
        if (boxlite_dispatch(runtime, 10, NULL, &error) != BOXLITE_TIMEOUT)
            return 1;
    }
    boxlite_runtime_free(runtime);
    puts("caught");
    return 0;
}
