// Labels of boxes, and lists of some boxes only.
#include "program.h"

static boxlite_box *labelled(boxlite_runtime *runtime, const char *name, const char *label, const char *value)
{
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    if (name)
        OK(boxlite_box_options_set_name(options, name, &error));
    if (label)
        OK(boxlite_box_options_add_label(options, label, value, &error));
    return create_box(runtime, options);
}

static boxlite_list_filter *new_filter(void)
{
    boxlite_list_filter *filter;
    OK(boxlite_list_filter_new(&filter, &error));
    return filter;
}

// The ids that a filter lets through are those of the boxes given, in this order; frees the filter.
static void lists(boxlite_runtime *runtime, boxlite_list_filter *filter, size_t count, boxlite_box *const *boxes)
{
    boxlite_op *op;
    boxlite_info_list *list;
    OK(boxlite_box_list_matching(runtime, filter, &op, &error));
    boxlite_list_filter_free(filter);
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_info_list(op, &list, &error));
    boxlite_op_free(op);
    if (boxlite_info_list_count(list) != count)
        FAIL("%zu boxes instead of %zu", boxlite_info_list_count(list), count);
    for (size_t i = 0; i < count; i++)
        CHECK(!strcmp(boxlite_box_info_id(boxlite_info_list_get(list, i)), boxlite_box_id(boxes[i])));
    boxlite_info_list_free(list);
}

// Also for another program.
static void see_the_labels(void)
{
    boxlite_op *op;
    boxlite_box *box;
    boxlite_runtime *runtime = open_runtime();
    OK(boxlite_box_get(runtime, "full", &op, &error));
    OK(boxlite_op_wait(op, 60000, &error));
    OK(boxlite_op_take_box(op, &box, &error));
    boxlite_op_free(op);
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_label_count(info) == 64);
    CHECK(strlen(boxlite_box_info_label(info, "long")) == 4096);
    CHECK(!strcmp(boxlite_box_info_label(info, "empty"), ""));
    CHECK(!strcmp(boxlite_box_info_label(info, "a.b/c-d_E9"), "\xc3\xa4 \"quoted\"\n"));
    CHECK(!boxlite_box_info_label(info, "none") && !boxlite_box_info_label(info, "lon"));
    for (size_t i = 0; i < 64; i++) {
        const char *name = boxlite_box_info_label_name(info, i);
        CHECK(!strcmp(boxlite_box_info_label(info, name), boxlite_box_info_label_value(info, i)));
        CHECK(i == 0 || strcmp(boxlite_box_info_label_name(info, i - 1), name) < 0);
    }
    CHECK(!boxlite_box_info_label_name(info, 64) && !boxlite_box_info_label_value(info, 64));
    boxlite_box_info_free(info);
    boxlite_box_free(box);
    boxlite_runtime_free(runtime);
}

static boxlite_box *a_box_may_have_64_labels(boxlite_runtime *runtime)
{
    boxlite_box_options *options;
    char name[80], value[4098];
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_name(options, "full", &error));
    for (int i = 0; i < 61; i++) {
        snprintf(name, sizeof name, "label-%d", i);
        OK(boxlite_box_options_add_label(options, name, name, &error));
    }
    memset(value, 'v', sizeof value);
    value[4097] = 0;
    FAILS(boxlite_box_options_add_label(options, "long", value, &error), BOXLITE_INVALID_ARGUMENT, "value");
    value[4096] = 0;
    OK(boxlite_box_options_add_label(options, "long", value, &error));
    OK(boxlite_box_options_add_label(options, "empty", "", &error));
    OK(boxlite_box_options_add_label(options, "a.b/c-d_E9", "replaced", &error));
    OK(boxlite_box_options_add_label(options, "a.b/c-d_E9", "\xc3\xa4 \"quoted\"\n", &error));
    FAILS(boxlite_box_options_add_label(options, "more", "", &error), BOXLITE_INVALID_ARGUMENT, "64");
    memset(name, 'n', sizeof name);
    name[64] = 0;
    FAILS(boxlite_box_options_add_label(options, name, "", &error), BOXLITE_INVALID_ARGUMENT, "name");
    FAILS(boxlite_box_options_add_label(options, "", "", &error), BOXLITE_INVALID_ARGUMENT, "name");
    FAILS(boxlite_box_options_add_label(options, "a b", "", &error), BOXLITE_INVALID_ARGUMENT, "name");
    return create_box(runtime, options);
}

static void filters_let_through_what_fits_all_of_them(boxlite_runtime *runtime)
{
    boxlite_op *op;
    boxlite_list_filter *filter;
    boxlite_box *blue = labelled(runtime, "web-blue", "colour", "blue");
    boxlite_box *red = labelled(runtime, "web-red", "colour", "red");
    boxlite_box *plain = labelled(runtime, NULL, NULL, NULL);

    lists(runtime, NULL, 3, (boxlite_box *[]){plain, red, blue});
    lists(runtime, new_filter(), 3, (boxlite_box *[]){plain, red, blue});

    filter = new_filter();
    OK(boxlite_list_filter_add_label(filter, "colour", NULL, &error));
    lists(runtime, filter, 2, (boxlite_box *[]){red, blue});
    filter = new_filter();
    OK(boxlite_list_filter_add_label(filter, "colour", "blue", &error));
    lists(runtime, filter, 1, &blue);
    filter = new_filter();
    OK(boxlite_list_filter_add_label(filter, "colour", "blue", &error));
    OK(boxlite_list_filter_add_label(filter, "colour", "red", &error));
    lists(runtime, filter, 0, NULL);

    filter = new_filter();
    OK(boxlite_list_filter_set_name_prefix(filter, "web-", &error));
    lists(runtime, filter, 2, (boxlite_box *[]){red, blue});
    filter = new_filter();
    OK(boxlite_list_filter_set_name_prefix(filter, "web-%", &error));
    lists(runtime, filter, 0, NULL);

    filter = new_filter();
    OK(boxlite_list_filter_set_image(filter, image("busybox"), &error));
    OK(boxlite_list_filter_set_name_prefix(filter, "web-r", &error));
    lists(runtime, filter, 1, &red);
    filter = new_filter();
    OK(boxlite_list_filter_set_image(filter, "busybox", &error));
    lists(runtime, filter, 0, NULL);

    OK(boxlite_box_start(red, &op, &error));
    wait_op(op);
    filter = new_filter();
    OK(boxlite_list_filter_add_status(filter, BOXLITE_BOX_RUNNING, &error));
    lists(runtime, filter, 1, &red);
    filter = new_filter();
    OK(boxlite_list_filter_add_status(filter, BOXLITE_BOX_RUNNING, &error));
    OK(boxlite_list_filter_add_status(filter, BOXLITE_BOX_CONFIGURED, &error));
    FAILS(boxlite_list_filter_add_status(filter, 8, &error), BOXLITE_INVALID_ARGUMENT, "status");
    FAILS(boxlite_list_filter_add_label(filter, "a b", NULL, &error), BOXLITE_INVALID_ARGUMENT, "name");
    lists(runtime, filter, 3, (boxlite_box *[]){plain, red, blue});

    remove_box(runtime, blue);
    remove_box(runtime, red);
    remove_box(runtime, plain);
}

int main(int argc, char **argv)
{
    (void)argc;
    be_program(argv, (program[]){{"see_the_labels", see_the_labels}, {NULL, NULL}});
    boxlite_runtime *runtime = open_runtime();
    filters_let_through_what_fits_all_of_them(runtime);
    boxlite_box *full = a_box_may_have_64_labels(runtime);
    wait_done(start_program("see_the_labels", -1, -1));
    remove_box(runtime, full);
    close_runtime(runtime);
    return 0;
}
