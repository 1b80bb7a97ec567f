// Disk templates: machines that have the disk of an image mounted. When one is made, for whom it is
// used, and that a box's disk is its own all the same.
#include "template_disk.h"

// How often something was begun, and done.
typedef struct {
    int began, done;
} preparation;

static void note(void *user_data, const boxlite_progress *step)
{
    preparation *p = user_data;
    const char *stage = boxlite_progress_stage(step);
    if (stage && boxlite_progress_began(step))
        p->began += !strcmp(stage, "preparing disk template");
    else if (stage)
        p->done += !strcmp(stage, "disk template");
}

// Starts a box from a template; whether it tells of a disk template that is being made is as wanted.
static void starts_and_tells(boxlite_runtime *runtime, boxlite_box *box, bool of_one)
{
    preparation p = {0};
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    OK(boxlite_op_on_progress(op, note, &p, NULL, &error));
    DISPATCH_UNTIL(runtime, boxlite_op_is_done(op));
    dispatch_all(runtime);
    wait_op(op);
    if (p.began != of_one || p.done != of_one)
        FAIL("a disk template: began %d, done %d, wanted %d, made %d, %d detours", p.began, p.done, of_one,
             (int)disk_templates_made(runtime), (int)detours(runtime));
    CHECK(boot_of(box) == BOXLITE_BOOT_RESTORED);
    PRINTS(box, "echo here", "here\n");
}

static void made_so_far(boxlite_runtime *runtime, uint64_t machines, uint64_t disks)
{
    if (templates_made(runtime) != machines || disk_templates_made(runtime) != disks || detours(runtime))
        FAIL("%d templates, %d disk templates, %d detours", (int)templates_made(runtime),
             (int)disk_templates_made(runtime), (int)detours(runtime));
    CHECK(count_templates("", NULL) == (int)(machines + disks) && count_disk_templates() == (int)disks);
    CHECK(count_templates(".new", NULL) == 0 && count_templates(".old", NULL) == 0);
}

static void the_first_start_of_an_image_makes_one_and_the_next_use_it(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *first = new_box(runtime), *second = new_box(runtime), *third = new_box(runtime);
    made_so_far(runtime, 0, 0);
    starts_and_tells(runtime, first, true);
    made_so_far(runtime, 1, 1);
    has_what_the_image_has(first);
    starts_and_tells(runtime, second, false);
    starts_from(third, "$D", "$T");
    made_so_far(runtime, 1, 1);
    has_what_the_image_has(second);
    CHECK(counter(runtime, BOXLITE_COUNTER_RESTORED_STARTS) == 3);
    CHECK(counter(runtime, BOXLITE_COUNTER_COLD_STARTS) == 0);
    remove_box(runtime, first);
    remove_box(runtime, second);
    remove_box(runtime, third);
    close_runtime(runtime);
}

// What a box is called has its place on the template's disk only if it is as long as an id.
static void a_box_knows_its_name_whatever_its_length(void)
{
    const char *names[] = {"x", "exactly-as-long-as-an-id-x", "a-name-that-is-longer-than-any-id-of-a-box"};
    boxlite_runtime *runtime = open_runtime();
    for (int i = 0; i < 3; i++) {
        boxlite_box_options *options;
        char wanted[256];
        OK(boxlite_box_options_new(image("busybox"), &options, &error));
        OK(boxlite_box_options_set_name(options, names[i], &error));
        boxlite_box *box = create_box(runtime, options);
        starts_and_tells(runtime, box, i == 0);
        snprintf(wanted, sizeof wanted, "%s\n%s\n127.0.1.1\t%s\n33\n", names[i], names[i], names[i]);
        PRINTS(box, "hostname; cat /etc/hostname; tail -n 1 /etc/hosts; wc -c < /etc/machine-id", wanted);
        remove_box(runtime, box);
    }
    made_so_far(runtime, 1, 1);
    close_runtime(runtime);
}

// The place of the box's disk takes no other file, as on a full disk: the disk stays as it was, and the
// box starts without the disk template.
static void a_disk_that_cannot_be_replaced_is_mounted_as_ever(void)
{
    // Only root makes anything immutable.
    if (geteuid() != 0)
        return;
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *first = new_box(runtime), *box = new_box(runtime);
    starts_and_tells(runtime, first, true);
    host_with(box, "chattr +i $BOX_/disks");
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    int32_t status = boxlite_op_wait(op, 120000, &error);
    // First of all: what is immutable cannot be cleaned up.
    host_with(box, "chattr -i $BOX_/disks; test $(ls -A $BOX_/disks) = disk.qcow2");
    CHECK(status == BOXLITE_OK && boot_of(box) == BOXLITE_BOOT_RESTORED && detours(runtime) == 1);
    boxlite_op_free(op);
    has_what_the_image_has(box);
    PRINTS(box, "test \"$(hostname)\" = \"$(cat /etc/hostname)\" && echo itself", "itself\n");
    remove_box(runtime, first);
    remove_box(runtime, box);
    close_runtime(runtime);
}

static void each_disk_and_each_machine_has_its_own(void)
{
    boxlite_runtime *runtime = open_runtime();
    struct {
        uint64_t disk_mib;
        uint32_t memory_mib;
        uint64_t machines, disks;
        const char *size;
    } kinds[] = {
        {100, 256, 1, 1, "204800\n"},
        {300, 256, 1, 2, "614400\n"},
        {100, 320, 2, 3, "204800\n"},
        {10240, 256, 2, 4, "20971520\n"},
        // As the first.
        {100, 256, 2, 4, "204800\n"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        boxlite_box *box = box_over(runtime, "busybox", kinds[i].disk_mib, kinds[i].memory_mib);
        starts_and_tells(runtime, box, kinds[i].disks > disk_templates_made(runtime));
        made_so_far(runtime, kinds[i].machines, kinds[i].disks);
        PRINTS(box, "cat /sys/class/block/vda/size", kinds[i].size);
        char *kib = output_of(box, "df -P -k / | awk 'NR == 2 { print $2 }'");
        uint64_t mib = strtoull(kib, NULL, 10) / 1024;
        CHECK(mib <= kinds[i].disk_mib && mib >= kinds[i].disk_mib * 85 / 100);
        free(kib);
        has_what_the_image_has(box);
        remove_box(runtime, box);
    }
    for (int i = 0; i < 2; i++) {
        boxlite_box *box = shaped_box(runtime, 2, 256);
        starts_and_tells(runtime, box, i == 0);
        made_so_far(runtime, 3, 5);
        PRINTS(box, "nproc; for i in 0 1; do taskset -c $i echo $i; done", "2\n0\n1\n");
        has_what_the_image_has(box);
        remove_box(runtime, box);
    }
    close_runtime(runtime);
}

// What a box has written is on no template's disk: it is started from a machine without one.
static void a_box_that_was_used_keeps_its_files(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime), *other = new_box(runtime);
    starts_and_tells(runtime, box, true);
    PRINTS(box, "echo mine > /own; sync; cat /own", "mine\n");
    stop_box(box);
    the_file_system_is_clean(box);
    starts_from(box, "$T", "$D");
    PRINTS(box, "cat /own; echo again >> /own", "mine\n");
    stop_box(box);
    the_file_system_is_clean(box);
    // It needs none.
    host("rm -r \"$D\"");
    starts_and_tells(runtime, box, false);
    PRINTS(box, "cat /own", "mine\nagain\n");
    has_what_the_image_has(box);
    CHECK(templates_made(runtime) == 1 && disk_templates_made(runtime) == 1 && detours(runtime) == 0);
    // Who was never started gets a new one.
    starts_and_tells(runtime, other, true);
    CHECK(templates_made(runtime) == 1 && disk_templates_made(runtime) == 2 && detours(runtime) == 0);
    PRINTS(other, "test -e /own; echo $?", "1\n");
    remove_box(runtime, box);
    remove_box(runtime, other);
    close_runtime(runtime);
}

static void boxes_of_one_template_do_not_see_each_other(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *boxes[3];
    const char *forget = "sync; echo 3 > /proc/sys/vm/drop_caches; ";
    for (int i = 0; i < 3; i++) {
        boxes[i] = new_box(runtime);
        CHECK(boot(boxes[i]) == BOXLITE_BOOT_RESTORED);
    }
    for (int life = 0; life < 2; life++) {
        for (int i = 0; i < 3; i++) {
            char script[400], wanted[64];
            snprintf(script, sizeof script,
                     "echo %d-%d >> /own%d; seq 100000 | sed s/$/-%d/ > /own; echo x%d >> /etc/passwd; %s"
                     "cat /own?; tail -n 1 /own; tail -n 1 /etc/passwd",
                     i, life, i, i, i, forget);
            if (life == 0)
                snprintf(wanted, sizeof wanted, "%d-0\n100000-%d\nx%d\n", i, i, i);
            else
                snprintf(wanted, sizeof wanted, "%d-0\n%d-1\n100000-%d\nx%d\n", i, i, i, i);
            PRINTS(boxes[i], script, wanted);
        }
        for (int i = 0; i < 3; i++) {
            char wanted[64];
            snprintf(wanted, sizeof wanted, "/own\n/own%d\n100000-%d\n%d\n", i, i, life + 1);
            PRINTS(boxes[i], "echo 3 > /proc/sys/vm/drop_caches; ls -d /own*; tail -n 1 /own; grep -c ^x /etc/passwd", wanted);
            stop_box(boxes[i]);
            the_file_system_is_clean(boxes[i]);
        }
        for (int i = 0; i < 3 && life == 0; i++)
            CHECK(boot(boxes[i]) == BOXLITE_BOOT_RESTORED);
    }
    boxlite_box *fresh = new_box(runtime);
    starts_from(fresh, "$D", "$T");
    has_what_the_image_has(fresh);
    made_so_far(runtime, 1, 1);
    remove_box(runtime, fresh);
    for (int i = 0; i < 3; i++)
        remove_box(runtime, boxes[i]);
    close_runtime(runtime);
}

// What a command finds around it.
static const char surroundings[] =
    "cat /proc/mounts /proc/self/limits /proc/self/cgroup /proc/cmdline /proc/swaps; "
    "grep -e ^Cap -e ^Sig -e ^Shd -e ^NoNew -e ^Seccomp -e ^Umask -e Uid /proc/self/status /proc/1/status; "
    "stat -c '%n %A %u %g' / /* /etc/* /dev/* /run /tmp; cat /etc/resolv.conf; env | grep -v ^HOSTNAME= | sort; pwd; id; "
    "ls /proc/1/fd | wc -l; "
    "cat /sys/block/vda/queue/scheduler /sys/block/vda/ro /proc/sys/vm/overcommit_memory";

// However it was started, a box is the same.
static void no_command_can_tell_how_its_box_was_started(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box_options *options;
    OK(boxlite_box_options_new(image("busybox"), &options, &error));
    OK(boxlite_box_options_set_cold_boot(options, true, &error));
    boxlite_box *boxes[3] = {create_box(runtime, options), new_box(runtime), new_box(runtime)};
    CHECK(boot(boxes[0]) == BOXLITE_BOOT_COLD);
    starts_and_tells(runtime, boxes[1], true);
    // Its disk is none that nobody has written to.
    host_with(boxes[2], "cp \"$D/disk\" $BOX_/disks/disk.qcow2");
    starts_from(boxes[2], "$T", "$D");
    char *text[3];
    for (int i = 0; i < 3; i++)
        text[i] = output_of(boxes[i], surroundings);
    for (int i = 1; i < 3; i++)
        if (strcmp(text[i], text[0]))
            FAIL("box %d has:\n%s\nand one that was booted:\n%s", i, text[i], text[0]);
    for (int i = 0; i < 3; i++) {
        free(text[i]);
        remove_box(runtime, boxes[i]);
    }
    close_runtime(runtime);
}

// Cuts a box's power.
static void kill_machine(boxlite_box *box)
{
    boxlite_box_info *info = inspect(box);
    CHECK(boxlite_box_info_pid(info) > 0 && kill((pid_t)boxlite_box_info_pid(info), SIGKILL) == 0);
    boxlite_box_info_free(info);
    EVENTUALLY(status_of(box) != BOXLITE_BOX_RUNNING);
}

// In the first life of a box the file system is as in the template, mounted.
static void a_cut_of_power_loses_nothing_that_was_synced(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *at_once = new_box(runtime), *written = new_box(runtime);
    start_box(at_once);
    kill_machine(at_once);
    CHECK(boot(written) == BOXLITE_BOOT_RESTORED);
    PRINTS(written, "seq 100000 > /own; echo x >> /etc/passwd; rm /bin/yes; sync; echo ok", "ok\n");
    kill_machine(written);

    CHECK(boot(at_once) == BOXLITE_BOOT_RESTORED && boot(written) == BOXLITE_BOOT_RESTORED);
    has_what_the_image_has(at_once);
    PRINTS(written, "seq 100000 | cmp - /own && tail -n 1 /etc/passwd; test -e /bin/yes; echo $?", "x\n1\n");
    PRINTS(at_once, "ls /bin/yes; echo fine > /own; cat /own", "/bin/yes\nfine\n");
    stop_box(at_once);
    stop_box(written);
    the_file_system_is_clean(at_once);
    the_file_system_is_clean(written);
    made_so_far(runtime, 1, 1);
    remove_box(runtime, at_once);
    remove_box(runtime, written);
    close_runtime(runtime);
}

// A box gets a disk that was mounted in a template. Whatever becomes of that, it is a disk.
static void a_disk_from_a_template_is_good_without_it(bool boots)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *killed = new_box(runtime), *given = new_box(runtime);
    start_box(killed);
    kill_machine(killed);
    // As if the start had ended when the disk was there and nothing else.
    host_with(given, "cp \"$D/disk\" $BOX_/disks/disk.qcow2");
    if (boots)
        host("rm -r $HOME_/templates; echo none > $HOME_/templates");
    boxlite_box *both[2] = {killed, given};
    for (int i = 0; i < 2; i++) {
        CHECK(boot(both[i]) == (boots ? BOXLITE_BOOT_COLD : BOXLITE_BOOT_RESTORED));
        has_what_the_image_has(both[i]);
        PRINTS(both[i], "echo mine > /own; cat /own", "mine\n");
        stop_box(both[i]);
        the_file_system_is_clean(both[i]);
    }
    CHECK(detours(runtime) == (boots ? 2 : 0));
    if (boots)
        host("rm $HOME_/templates");
    for (int i = 0; i < 2; i++) {
        CHECK(boot(both[i]) == BOXLITE_BOOT_RESTORED);
        PRINTS(both[i], "cat /own", "mine\n");
        remove_box(runtime, both[i]);
    }
    CHECK(templates_made(runtime) == (boots ? 2 : 1) && disk_templates_made(runtime) == 1);
    close_runtime(runtime);
}

static void a_cold_boot_touches_none(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *cold[2], *fresh;
    for (int i = 0; i < 2; i++) {
        boxlite_box_options *options;
        OK(boxlite_box_options_new(image("busybox"), &options, &error));
        OK(boxlite_box_options_set_cold_boot(options, true, &error));
        cold[i] = create_box(runtime, options);
    }
    CHECK(boot(cold[0]) == BOXLITE_BOOT_COLD);
    made_so_far(runtime, 0, 0);
    // Nor one that is there.
    fresh = new_box(runtime);
    host_with(fresh, "cp $BOX_/disks/disk.qcow2 $HOME_/fresh");
    starts_and_tells(runtime, fresh, true);
    host_with(cold[1], "cmp $BOX_/disks/disk.qcow2 $HOME_/fresh");
    not_used_meanwhile("$D");
    not_used_meanwhile("$T");
    CHECK(boot(cold[1]) == BOXLITE_BOOT_COLD);
    not_used("$D");
    not_used("$T");
    has_what_the_image_has(cold[1]);
    made_so_far(runtime, 1, 1);
    remove_box(runtime, fresh);
    for (int i = 0; i < 2; i++)
        remove_box(runtime, cold[i]);
    close_runtime(runtime);
}

static void who_wants_none_gets_none(void)
{
    boxlite_runtime_options *options;
    FAILS(boxlite_runtime_options_set_disk_templates(NULL, true, &error), BOXLITE_INVALID_ARGUMENT, "options");
    OK(boxlite_runtime_options_new(&options, &error));
    OK(boxlite_runtime_options_set_disk_templates(options, false, &error));
    OK(boxlite_runtime_options_set_disk_templates(options, true, &error));
    boxlite_runtime_options_free(options);

    boxlite_runtime *runtime = open_without_disks();
    boxlite_box *box = new_box(runtime);
    starts_and_tells(runtime, box, false);
    made_so_far(runtime, 1, 0);
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);

    // Another program may want them: they are made from the machine that is there.
    runtime = open_runtime();
    box = new_box(runtime);
    starts_and_tells(runtime, box, true);
    CHECK(templates_made(runtime) == 0 && disk_templates_made(runtime) == 1);
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);

    // And who does not, uses none that is there.
    runtime = open_without_disks();
    box = new_box(runtime);
    starts_from(box, "$T", "$D");
    CHECK(templates_made(runtime) == 0 && disk_templates_made(runtime) == 0);
    remove_box(runtime, box);
    close_runtime(runtime);
}

#define MANY 20

static void many_at_once_make_one(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *boxes[MANY];
    boxlite_op *ops[MANY];
    for (int i = 0; i < MANY; i++)
        boxes[i] = box_over(runtime, "busybox", 64, 128);
    for (int i = 0; i < MANY; i++)
        OK(boxlite_box_start(boxes[i], &ops[i], &error));
    for (int i = 0; i < MANY; i++) {
        char script[64], wanted[32];
        wait_op(ops[i]);
        CHECK(boot_of(boxes[i]) == BOXLITE_BOOT_RESTORED);
        snprintf(wanted, sizeof wanted, "box %d\n", i);
        snprintf(script, sizeof script, "echo box %d >> /own; cat /own", i);
        PRINTS(boxes[i], script, wanted);
    }
    made_so_far(runtime, 1, 1);
    for (int i = 0; i < MANY; i++)
        remove_box(runtime, boxes[i]);
    close_runtime(runtime);
}

int main(void)
{
    find_tools();
    the_first_start_of_an_image_makes_one_and_the_next_use_it();
    a_box_knows_its_name_whatever_its_length();
    a_disk_that_cannot_be_replaced_is_mounted_as_ever();
    each_disk_and_each_machine_has_its_own();
    a_box_that_was_used_keeps_its_files();
    boxes_of_one_template_do_not_see_each_other();
    no_command_can_tell_how_its_box_was_started();
    a_cut_of_power_loses_nothing_that_was_synced();
    a_disk_from_a_template_is_good_without_it(false);
    a_disk_from_a_template_is_good_without_it(true);
    a_cold_boot_touches_none();
    who_wants_none_gets_none();
    many_at_once_make_one();
    return 0;
}
