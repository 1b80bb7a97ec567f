// A box with several processors: what they run may change under them. A static key of the kernel's is
// switched, thousands of times, while both processors run the instructions that it changes. (A kernel
// that changes them by breakpoint panics in QEMU's translator, in most runs.)
#include "check.h"

#define SLEEPS "(i=0; while [ $i -lt 1500 ]; do i=$((i+1)); usleep 1; done) & "

int main(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_cpus(options, 2, &error));
    boxlite_box *box = create_box(runtime, options);
    PRINTS(box,
           "cd /proc/sys/kernel; " SLEEPS SLEEPS "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); "
           "echo 0 > timer_migration; echo 1 > timer_migration; done; wait; cat timer_migration; nproc",
           "1\n2\n");
    remove_box(runtime, box);
    close_runtime(runtime);
    return 0;
}
