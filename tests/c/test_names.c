// Names of boxes: which are refused, who has one already, and what a part of an id may mean.
#include "check.h"

static boxlite_box *named(boxlite_runtime *runtime, const char *name)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, name, &error));
    return create_box(runtime, options);
}

static void malformed_names_are_refused(void)
{
    char longest[129], longer[301];
    memset(longest, 'x', 128), longest[128] = 0;
    memset(longer, 'x', 300), longer[300] = 0;
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    const char *refused[] = {"", longer, "a/b", "/", "..", "../x", ".hidden", "-x", "a b", "a\nb", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        boxlite_status status = boxlite_box_options_set_name(options, refused[i], &error);
        if (status != BOXLITE_INVALID_ARGUMENT)
            FAIL("'%s': %s", refused[i], boxlite_status_name(status));
        CHECK(!strcmp(boxlite_error_object(error), "name") && strstr(boxlite_error_message(error), "name"));
        boxlite_error_free(error);
        error = NULL;
    }
    OK(boxlite_box_options_set_name(options, longest, &error));
    boxlite_box_options_free(options);
}

static void a_name_that_is_taken_names_its_holder(boxlite_runtime *runtime)
{
    boxlite_box *box = named(runtime, "web.1_a-b");
    boxlite_box_options *options;
    boxlite_op *op;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "web.1_a-b", &error));
    OK(boxlite_box_create(runtime, options, &op, &error));
    boxlite_box_options_free(options);
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    CHECK(status == BOXLITE_ALREADY_EXISTS && !strcmp(boxlite_error_object(error), "web.1_a-b"));
    CHECK(strstr(boxlite_error_message(error), boxlite_box_id(box)));
    boxlite_error_free(error);
    error = NULL;
    boxlite_op_free(op);
    CHECK(count_boxes(runtime) == 1);
    // With its holder gone it is free.
    remove_box(runtime, box);
    remove_box(runtime, named(runtime, "web.1_a-b"));
}

// The status of looking for a box, which has to be this one if it is found.
static boxlite_status look(boxlite_runtime *runtime, const char *wanted, const boxlite_box *expected)
{
    boxlite_op *op;
    boxlite_box *box;
    OK(boxlite_box_get(runtime, wanted, &op, &error));
    boxlite_status status = boxlite_op_wait(op, 60000, &error);
    if (status == BOXLITE_OK) {
        OK(boxlite_op_take_box(op, &box, &error));
        CHECK(expected && !strcmp(boxlite_box_id(box), boxlite_box_id(expected)));
        boxlite_box_free(box);
    }
    boxlite_op_free(op);
    return status;
}

static void the_beginning_of_an_id_means_one_box_or_lists_them(boxlite_runtime *runtime)
{
    boxlite_box *first = named(runtime, "first"), *second = named(runtime, "second");
    const char *one = boxlite_box_id(first), *two = boxlite_box_id(second);
    size_t shared = 0;
    while (one[shared] == two[shared])
        shared++;
    // Ids begin with the time.
    CHECK(shared > 0);
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%.*s", (int)shared, one);
    CHECK(look(runtime, prefix, NULL) == BOXLITE_INVALID_ARGUMENT);
    const char *message = boxlite_error_message(error);
    CHECK(strstr(message, one) && strstr(message, two) && strstr(message, "first") && strstr(message, "second"));
    boxlite_error_free(error);
    error = NULL;
    // No box is removed by what may mean two.
    boxlite_op *op;
    OK(boxlite_box_remove(runtime, prefix, true, &op, &error));
    FAILS(boxlite_op_wait(op, 60000, &error), BOXLITE_INVALID_ARGUMENT, two);
    boxlite_op_free(op);
    CHECK(count_boxes(runtime) == 2);

    snprintf(prefix, sizeof prefix, "%.*s", (int)shared + 1, one);
    CHECK(look(runtime, prefix, first) == BOXLITE_OK);
    CHECK(look(runtime, two, second) == BOXLITE_OK && look(runtime, "second", second) == BOXLITE_OK);
    const char *nobody[] = {"none", "firs", "%", "_", "*", "0/1", "first/", "01%"};
    for (size_t i = 0; i < sizeof nobody / sizeof *nobody; i++) {
        CHECK(look(runtime, nobody[i], NULL) == BOXLITE_NOT_FOUND);
        CHECK(strstr(boxlite_error_message(error), nobody[i]));
        boxlite_error_free(error);
        error = NULL;
    }
    // A name that begins the ids of others is its box's.
    snprintf(prefix, sizeof prefix, "%.*s", (int)shared, one);
    boxlite_box *third = named(runtime, prefix);
    CHECK(look(runtime, prefix, third) == BOXLITE_OK);
    remove_box(runtime, third);
    remove_box(runtime, second);
    remove_box(runtime, first);
}

int main(void)
{
    malformed_names_are_refused();
    boxlite_runtime *runtime = open_runtime();
    a_name_that_is_taken_names_its_holder(runtime);
    the_beginning_of_an_id_means_one_box_or_lists_them(runtime);
    close_runtime(runtime);
    return 0;
}
