// A pool in a home that holds no templates (a tmpfs): its machine was booted, and waits like any
// other. The box that gets it notices a full host disk. Needs root, to mount the home.
#include "small_home.h"

static boxlite_runtime *open_pool(void)
{
    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_home(options, home, &error));
    OK(boxlite_runtime_options_set_pool_size(options, 1, &error));
    OK(boxlite_runtime_open(options, &runtime, &error));
    boxlite_runtime_options_free(options);
    return runtime;
}

int main(void)
{
    if (!make_small_home())
        return 77;
    boxlite_runtime *runtime = open_pool();
    EVENTUALLY(boxlite_runtime_pool_ready(runtime) == 1);

    boxlite_box *box = new_box(runtime);
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_POOLED_STARTS) == 1);
    CHECK(boxlite_runtime_counter(runtime, BOXLITE_COUNTER_TEMPLATES_MADE) == 0);

    boxlite_exec *exec = start(box, "dd if=/dev/urandom of=/big bs=1M count=200 2>/dev/null; sync");
    EVENTUALLY(status_of(box) == BOXLITE_BOX_PAUSED);
    boxlite_box_info *info = inspect(box);
    CHECK(strstr(boxlite_box_info_error(info), "disk is full"));
    boxlite_box_info_free(info);

    boxlite_op *op;
    int32_t code;
    CHECK(mount("tmpfs", home, "tmpfs", MS_REMOUNT, "size=400m") == 0);
    OK(boxlite_box_resume(box, &op, &error));
    wait_op(op);
    OK(boxlite_exec_wait(exec, 120000, &code, &error));
    CHECK(code == 0);
    boxlite_exec_free(exec);

    remove_box(runtime, box);
    boxlite_op *shutdown;
    OK(boxlite_runtime_shutdown(runtime, 0, &shutdown, &error));
    wait_op(shutdown);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    return 0;
}
