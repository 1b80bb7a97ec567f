// A plug-in's life: a program that does not link the library loads it, uses it, unloads it, and does
// so again.
#define _GNU_SOURCE
#include <boxlite.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FAIL(...)                                                                                  \
    do {                                                                                           \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                            \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fprintf(stderr, "\n");                                                                     \
        exit(1);                                                                                   \
    } while (0)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            FAIL("not true: %s", #condition);                                                      \
    } while (0)

// A function of the library, with the type that the header gives it.
#define LOAD(library, name)                                                                        \
    __typeof__(name) *name##_ = NULL;                                                              \
    *(void **)&name##_ = dlsym(library, #name);                                                    \
    CHECK(name##_)

static void load_use_unload(const char *path, const char *home, bool leave_at_once)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        FAIL("%s", dlerror());
    // Local: nobody else sees its symbols.
    CHECK(!dlsym(RTLD_DEFAULT, "boxlite_version"));
    LOAD(library, boxlite_version);
    LOAD(library, boxlite_has_feature);
    LOAD(library, boxlite_error_message);
    LOAD(library, boxlite_runtime_options_new);
    LOAD(library, boxlite_runtime_options_set_home);
    LOAD(library, boxlite_runtime_options_free);
    LOAD(library, boxlite_runtime_open);
    LOAD(library, boxlite_runtime_free);
    LOAD(library, boxlite_run);
    LOAD(library, boxlite_output_code);
    LOAD(library, boxlite_output_bytes);
    LOAD(library, boxlite_output_free);
    CHECK(!strcmp(boxlite_version_(), BOXLITE_VERSION) && boxlite_has_feature_("run"));

    boxlite_runtime_options *options;
    boxlite_runtime *runtime;
    boxlite_output *output;
    boxlite_error *error;
    char image[512];
    const char *argv[] = {"echo", "loaded"};
    snprintf(image, sizeof image, "%s/busybox", getenv("BOXLITE_TEST_IMAGES"));
    CHECK(boxlite_runtime_options_new_(&options, NULL) == BOXLITE_OK);
    CHECK(boxlite_runtime_options_set_home_(options, home, NULL) == BOXLITE_OK);
    if (boxlite_runtime_open_(options, &runtime, &error) != BOXLITE_OK)
        FAIL("%s", boxlite_error_message_(error));
    boxlite_runtime_options_free_(options);
    if (boxlite_run_(runtime, image, argv, 2, 100, 120000, &output, &error) != BOXLITE_OK)
        FAIL("%s", boxlite_error_message_(error));
    CHECK(boxlite_output_code_(output) == 0);
    CHECK(!strcmp((const char *)boxlite_output_bytes_(output, BOXLITE_STDOUT, NULL), "loaded\n"));
    boxlite_output_free_(output);
    boxlite_runtime_free_(runtime);
    // Its threads may be ending just now.
    if (!leave_at_once)
        nanosleep(&(struct timespec){0, 200000000}, NULL);
    CHECK(dlclose(library) == 0);
}

int main(int argc, char **argv)
{
    char home[] = "/tmp/boxlite-test-XXXXXX", command[128];
    const char *path = argc > 1 ? argv[1] : NULL;
    CHECK(path && mkdtemp(home));
    for (int i = 0; i < 3; i++)
        load_use_unload(path, home, i != 1);
    nanosleep(&(struct timespec){0, 300000000}, NULL);
    snprintf(command, sizeof command, "rm -rf %s", home);
    CHECK(system(command) == 0);
    return 0;
}
