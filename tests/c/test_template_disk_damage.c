// Whatever becomes of a disk template, or of who makes one, the next start succeeds and says why it
// took longer; and no template is used for another disk than its own.
#include "template_disk.h"

// What the description says of a small file that was replaced: as if it were right.
#define DESCRIBE(file)                                                                             \
    "; python3 - \"$D\" <<'END'\n"                                                                 \
    "import hashlib, json, sys\n"                                                                  \
    "t = sys.argv[1]; d = json.load(open(t + '/template.json')); s = open(t + '/" file "', 'rb').read()\n" \
    "d['" file "'] = {'bytes': len(s), 'sha256': hashlib.sha256(s).hexdigest()}\n"                 \
    "json.dump(d, open(t + '/template.json', 'w'))\n"                                              \
    "END\n"
#define DESCRIBE_MEMORY                                                                            \
    "; python3 - \"$D\" <<'END'\n"                                                                 \
    "import json, os, sys\n"                                                                       \
    "t = sys.argv[1]; d = json.load(open(t + '/template.json')); s = os.stat(t + '/ram')\n"        \
    "m = d['memory']; m['inode'] = s.st_ino; m['bytes'] = s.st_size\n"                             \
    "m['modified'] = divmod(s.st_mtime_ns, 10**9); m['changed'] = divmod(s.st_ctime_ns, 10**9)\n"  \
    "json.dump(d, open(t + '/template.json', 'w'))\n"                                              \
    "END\n"
// Changes one byte at an offset.
#define FLIP(file, offset)                                                                         \
    "python3 -c 'import sys; f = open(sys.argv[1] + \"/" file "\", \"r+b\"); f.seek(" offset ")\n" \
    "b = f.read(1); f.seek(-1, 1); f.write(bytes([b[0] ^ 1]))' \"$D\""
#define REPLACE(file, by) "rm -r \"$D/" file "\"; " by " \"$D/" file "\""
#define UNUSABLE "disk template was unusable"

static const struct {
    const char *what, *script;
    // What the warning says; NULL if there is nothing to warn of.
    const char *reason;
    // Found out when it is loaded: the box comes from the machine's, and the next makes a good one.
    bool late;
} damages[] = {
    {"a byte of the disk", FLIP("disk", "200000"), "its disk has another checksum", false},
    {"the first byte of the disk", FLIP("disk", "0"), "its disk has another checksum", false},
    {"a disk that is shorter", "truncate -s 100000 \"$D/disk\"", "its disk has another size", false},
    {"a disk that is longer", "truncate -s +1 \"$D/disk\"", "its disk has another size", false},
    {"an empty disk", "truncate -s 0 \"$D/disk\"", "its disk has another size", false},
    {"a disk too large to read", "truncate -s 1T \"$D/disk\"", "disk: too large", false},
    {"no disk", "rm \"$D/disk\"", "disk: No such file", false},
    {"a pipe in the place of the disk", REPLACE("disk", "mkfifo"), "disk: not a file", false},
    {"a directory in the place of the disk", REPLACE("disk", "mkdir"), "disk: not a file", false},
    {"a link in the place of the disk", REPLACE("disk", "ln -s /etc/passwd"), UNUSABLE, false},
    {"a description without the disk", "sed -i 's/\"disk\": {/\"disc\": {/' \"$D/template.json\"", "its disk is not described", false},
    {"a description of another disk", "sed -i 's/ bytes\"/0&/' \"$D/template.json\"", "made from other parts", false},
    {"the description of the machine", "cp \"$T/template.json\" \"$D/\"", "made from other parts", false},

    {"a byte of the memory", FLIP("ram", "256 << 20"), "memory is not the file that was saved", false},
    {"memory that is shorter", "truncate -s 300M \"$D/ram\"", "memory is not the file that was saved", false},
    {"a copy of the memory", "cp -p \"$D/ram\" \"$D/copy\"; mv \"$D/copy\" \"$D/ram\"", "memory is not the file that was saved", false},
    {"the machine's memory", "cp -p \"$T/ram\" \"$D/ram\"", "memory is not the file that was saved", false},
    {"no memory", "rm \"$D/ram\"", "ram: No such file", false},
    {"a pipe in the place of the memory", REPLACE("ram", "mkfifo"), UNUSABLE, false},
    {"a directory in the place of the memory", REPLACE("ram", "mkdir"), "ram: not a file", false},
    {"memory that somebody emptied, described as if it were right",
     "truncate -s 0 \"$D/ram\"; truncate -s 512M \"$D/ram\"" DESCRIBE_MEMORY, "restore a machine", true},

    {"a byte of the state", FLIP("state", "1000"), "another checksum", false},
    {"a state that is shorter", "truncate -s 1000 \"$D/state\"", "another size", false},
    {"the machine's state", "cp \"$T/state\" \"$D/state\"", "the state of its devices has another", false},
    {"no state", "rm \"$D/state\"", "state: No such file", false},
    {"a pipe in the place of the state", REPLACE("state", "mkfifo"), UNUSABLE, false},
    {"a state of noise, described as if it were right",
     "head -c 100000 /dev/urandom > \"$D/state\"" DESCRIBE("state"), "restore a machine", true},
    {"half a state, described as if it were right",
     "truncate -s $(($(stat -c %s \"$D/state\") / 2)) \"$D/state\"" DESCRIBE("state"), "restore a machine", true},

    {"a pipe in the place of the description", REPLACE("template.json", "mkfifo"), UNUSABLE, false},
    {"a description that is none", "echo none > \"$D/template.json\"", "template.json", false},
    {"a description from the time to come", "sed -i 's/\"made\": /&9/' \"$D/template.json\"", "too old", false},
    {"no description", "rm \"$D/template.json\"", NULL, false},
    {"an empty directory", "rm \"$D\"/*", NULL, false},
    {"nothing", "rm -r \"$D\"", NULL, false},
    {"a plain file", "rm -r \"$D\"; echo none > \"$D\"", "template.json: Not a directory", false},
    {"a link to nowhere", "rm -r \"$D\"; ln -s nowhere \"$D\"", NULL, false},
    {"a file in the place of a workshop", "rm -r \"$D\"; echo none > \"$D.new\"", NULL, false},
    {"a maker's leftovers", "rm -r \"$D\"; mkdir \"$D.new\"; echo none > \"$D.new/disk\"", NULL, false},
};

// Starts a box that was never started, from one template or the other; its contents are the image's.
static boxlite_box *fresh_box(boxlite_runtime *runtime, const char *what)
{
    boxlite_box *box = new_box(runtime);
    if (boot(box) != BOXLITE_BOOT_RESTORED)
        FAIL("%s: boot %d", what, (int)boot_of(box));
    has_what_the_image_has(box);
    PRINTS(box, "echo mine > /own; sync; cat /own", "mine\n");
    return box;
}

// What the warnings were about one start, and how many.
static void was_warned(boxlite_runtime *runtime, size_t i, warnings *w, boxlite_box *box, uint64_t detoured)
{
    const char *reason = damages[i].reason;
    dispatch_all(runtime);
    bool warned = reason && strstr(w->text, reason) && strstr(w->text, boxlite_box_id(box));
    if (detours(runtime) != detoured + (reason != NULL) || warned != (reason != NULL))
        FAIL("%s: %d detours, %s", damages[i].what, (int)(detours(runtime) - detoured), w->text);
    w->text[0] = 0;
}

// A good one is made instead, once, and used from then on. The machine's template stays.
static void damaged_ones_are_made_anew(void)
{
    boxlite_runtime *runtime = open_runtime();
    warnings w = {""};
    listen_to_warnings(runtime, &w);
    remove_box(runtime, fresh_box(runtime, "none yet"));
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        uint64_t made = disk_templates_made(runtime), detoured = detours(runtime);
        host(damages[i].script);
        boxlite_box *box = fresh_box(runtime, damages[i].what);
        was_warned(runtime, i, &w, box, detoured);
        if (damages[i].late) {
            CHECK(disk_templates_made(runtime) == made && count_disk_templates() == 0);
            remove_box(runtime, fresh_box(runtime, "the next"));
        }
        if (disk_templates_made(runtime) != made + 1)
            FAIL("%s: %d were made", damages[i].what, (int)(disk_templates_made(runtime) - made));
        CHECK(templates_made(runtime) == 1);
        CHECK(count_templates("", NULL) == 2 && count_disk_templates() == 1);
        CHECK(count_templates(".new", NULL) == 0 && count_templates(".old", NULL) == 0);
        // What a box wrote is there, however it came to run.
        stop_box(box);
        the_file_system_is_clean(box);
        CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
        PRINTS(box, "cat /own", "mine\n");
        remove_box(runtime, box);
    }
    uint64_t made = disk_templates_made(runtime), detoured = detours(runtime);
    remove_box(runtime, fresh_box(runtime, "the last"));
    CHECK(disk_templates_made(runtime) == made && detours(runtime) == detoured);
    close_runtime(runtime);
}

// The machine's template is looked at too when a disk's is made from it.
static void a_damaged_machine_is_made_anew_too(void)
{
    boxlite_runtime *runtime = open_runtime();
    remove_box(runtime, fresh_box(runtime, "none yet"));
    host("rm -r \"$D\"; truncate -s 300M \"$T/ram\"");
    remove_box(runtime, fresh_box(runtime, "a machine's memory that is shorter"));
    CHECK(templates_made(runtime) == 2 && disk_templates_made(runtime) == 2 && detours(runtime) == 1);
    CHECK(count_templates("", NULL) == 2 && count_disk_templates() == 1);
    close_runtime(runtime);
}

// Two templates, of disks of two sizes, exchange their files.
static void one_of_another_disk_is_not_used(void)
{
    static const struct {
        const char *script, *reason;
    } mixtures[] = {
        {"cp \"$OTHER/disk\" \"$ONE/disk\"", "its disk has another"},
        {"cp \"$OTHER/state\" \"$ONE/state\"", "the state of its devices has another"},
        {"cp -p \"$OTHER/ram\" \"$ONE/ram\"", "its memory is not"},
        {"rm -r \"$ONE\"; cp -a \"$OTHER\" \"$ONE\"", "made from other parts"},
    };
    boxlite_runtime *runtime = open_runtime();
    warnings w = {""};
    char one[512], other[512];
    listen_to_warnings(runtime, &w);
    boxlite_box *box = box_over(runtime, "busybox", 300, 0);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && find_templates(true, one) == 1);
    remove_box(runtime, box);
    setenv("ONE", one, 1);
    host("mv \"$ONE\" $HOME_/away");
    box = box_over(runtime, "busybox", 100, 0);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && find_templates(true, other) == 1);
    remove_box(runtime, box);
    setenv("OTHER", other, 1);
    host("mv $HOME_/away \"$ONE\"");
    for (size_t i = 0; i < sizeof mixtures / sizeof *mixtures; i++) {
        uint64_t made = disk_templates_made(runtime);
        host(mixtures[i].script);
        box = box_over(runtime, "busybox", 300, 0);
        CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
        PRINTS(box, "cat /sys/class/block/vda/size; df -P -k / | awk 'NR == 2 { print ($2 > 200000) }'", "614400\n1\n");
        has_what_the_image_has(box);
        dispatch_all(runtime);
        CHECK(strstr(w.text, mixtures[i].reason));
        CHECK(disk_templates_made(runtime) == made + 1 && detours(runtime) == i + 1);
        w.text[0] = 0;
        remove_box(runtime, box);
    }
    close_runtime(runtime);
}

// Gives the image in the home, which is made if there is none, another content; a box of that.
static boxlite_box *box_of_version(boxlite_runtime *runtime, int version)
{
    boxlite_box_options *options;
    char text[16], path[128];
    snprintf(text, sizeof text, "%d", version);
    setenv("VERSION_", text, 1);
    setenv("BUSYBOX_", image("busybox"), 1);
    host("test -e $HOME_/image || { cp -rL \"$BUSYBOX_\" $HOME_/image && chmod -R u+w $HOME_/image; }; "
         "echo $VERSION_ > $HOME_/version && umoci insert --image $HOME_/image:latest $HOME_/version /version >&2");
    snprintf(path, sizeof path, "%s/image", home);
    OK(boxlite_box_options_new(path, &options, &error));
    return create_box(runtime, options);
}

static void another_content_of_the_same_name_has_its_own(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *first = box_of_version(runtime, 1), *other_first = box_of_version(runtime, 1);
    CHECK(boot(first) == BOXLITE_BOOT_RESTORED);
    PRINTS(first, "cat /version", "1\n");
    boxlite_box *second = box_of_version(runtime, 2);
    CHECK(boot(second) == BOXLITE_BOOT_RESTORED);
    PRINTS(second, "cat /version", "2\n");
    CHECK(disk_templates_made(runtime) >= 2);
    // Who was made of the earlier one is that.
    CHECK(boot(other_first) == BOXLITE_BOOT_RESTORED);
    PRINTS(other_first, "cat /version", "1\n");
    CHECK(templates_made(runtime) == 1 && detours(runtime) == 0);
    remove_box(runtime, first);
    remove_box(runtime, other_first);
    remove_box(runtime, second);
    close_runtime(runtime);
}

// A base disk that was written to, or made again, is another: even if it should have the same bytes.
static void another_base_disk_has_its_own(void)
{
    static const char *changes[] = {
        "touch $HOME_/images/disk-images/*",
        "cp $HOME_/images/disk-images/* $HOME_/base && mv $HOME_/base $HOME_/images/disk-images/*",
        "rm $HOME_/images/disk-images/*",
    };
    boxlite_runtime *runtime = open_runtime();
    remove_box(runtime, fresh_box(runtime, "none yet"));
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        host(changes[i]);
        remove_box(runtime, fresh_box(runtime, changes[i]));
        CHECK(disk_templates_made(runtime) == i + 2);
    }
    CHECK(templates_made(runtime) == 1 && detours(runtime) == 0);
    close_runtime(runtime);
}

// A disk's path is in what is written over it: in another place it is another.
static void a_home_that_was_moved_has_its_own(void)
{
    char moved[80];
    boxlite_runtime *runtime = open_runtime();
    remove_box(runtime, fresh_box(runtime, "none yet"));
    shut_down(runtime);
    snprintf(moved, sizeof moved, "%.40s.moved", home);
    host("mv $HOME_ $HOME_.moved");
    strcpy(home, moved);
    for (int i = 0; i < 2; i++) {
        runtime = open_runtime();
        boxlite_box *box = fresh_box(runtime, "moved");
        CHECK(templates_made(runtime) == 0 && disk_templates_made(runtime) == (i == 0) && detours(runtime) == 0);
        stop_box(box);
        the_file_system_is_clean(box);
        remove_box(runtime, box);
        shut_down(runtime);
    }
    close_runtime(open_runtime());
}

// Kills a box's supervisor while it makes a disk template; false if that was faster.
static bool kill_a_supervisor(boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    see_one_made(true);
    host_with(box, "kill -9 $(cat $BOX_/shim.pid)");
    boxlite_status status = boxlite_op_wait(op, 120000, &error);
    CHECK(status != BOXLITE_TIMEOUT);
    boxlite_error_free(error);
    error = NULL;
    boxlite_op_free(op);
    EVENTUALLY(count_users() == 0);
    return count_disk_templates() == 0;
}

static void one_that_a_killed_supervisor_began_is_made_by_the_next(void)
{
    boxlite_runtime *runtime = open_runtime();
    boxlite_box *box = new_box(runtime), *other = new_box(runtime);
    for (int tries = 0; !kill_a_supervisor(box); tries++) {
        CHECK(tries < 10);
        host("rm -r \"$D\"");
        remove_box(runtime, box);
        box = new_box(runtime);
    }
    CHECK(count_templates(".new", NULL) == 1);
    uint64_t made = templates_made(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && boot(other) == BOXLITE_BOOT_RESTORED);
    CHECK(templates_made(runtime) == made && disk_templates_made(runtime) == 1 && detours(runtime) == 0);
    CHECK(count_templates("", NULL) == 2 && count_disk_templates() == 1);
    CHECK(count_templates(".new", NULL) == 0 && count_templates(".old", NULL) == 0);
    has_what_the_image_has(box);
    has_what_the_image_has(other);
    remove_box(runtime, box);
    remove_box(runtime, other);
    close_runtime(runtime);
}

// Kills the machine that a disk template is being made of; false if that was faster, or if the box has
// started already.
static bool kill_its_machine(boxlite_runtime *runtime, boxlite_box *box)
{
    boxlite_op *op;
    OK(boxlite_box_start(box, &op, &error));
    see_one_made(true);
    host_with(box, "pid=$(cat $BOX_/shim.pid); kill -9 $(cat /proc/$pid/task/$pid/children) || true");
    boxlite_status status = boxlite_op_wait(op, 120000, &error);
    boxlite_error_free(error);
    error = NULL;
    boxlite_op_free(op);
    return status == BOXLITE_OK && disk_templates_made(runtime) == 0 && detours(runtime) == 1;
}

static void a_machine_that_dies_while_one_is_made_of_it_harms_nobody(void)
{
    boxlite_runtime *runtime = open_runtime();
    warnings w = {""};
    boxlite_box *box = new_box(runtime);
    listen_to_warnings(runtime, &w);
    for (int tries = 0; !kill_its_machine(runtime, box); tries++) {
        CHECK(tries < 10);
        remove_box(runtime, box);
        close_runtime(runtime);
        runtime = open_runtime();
        box = new_box(runtime);
        listen_to_warnings(runtime, &w);
    }
    boxlite_box *early = new_box(runtime), *late = new_box(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    has_what_the_image_has(box);
    dispatch_all(runtime);
    CHECK(strstr(w.text, "prepare a disk template") && strstr(w.text, boxlite_box_id(box)));
    CHECK(count_templates("", NULL) == 1 && count_templates(".new", NULL) == 0);

    // It is not tried again at once.
    CHECK(boot(early) == BOXLITE_BOOT_RESTORED && disk_templates_made(runtime) == 0);
    dispatch_all(runtime);
    CHECK(detours(runtime) == 2 && strstr(w.text, "preparing a disk template has just failed"));
    a_minute_later();
    CHECK(boot(late) == BOXLITE_BOOT_RESTORED && disk_templates_made(runtime) == 1);
    CHECK(detours(runtime) == 2 && templates_made(runtime) == 1);
    remove_box(runtime, box);
    remove_box(runtime, early);
    remove_box(runtime, late);
    close_runtime(runtime);
}

int main(void)
{
    find_tools();
    damaged_ones_are_made_anew();
    a_damaged_machine_is_made_anew_too();
    one_of_another_disk_is_not_used();
    another_content_of_the_same_name_has_its_own();
    another_base_disk_has_its_own();
    a_home_that_was_moved_has_its_own();
    one_that_a_killed_supervisor_began_is_made_by_the_next();
    a_machine_that_dies_while_one_is_made_of_it_harms_nobody();
    return 0;
}
