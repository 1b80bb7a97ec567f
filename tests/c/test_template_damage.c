// Whatever becomes of a machine template, the next start succeeds, says why it took longer, and
// leaves a good one.
#include "templates.h"

// What the description says of a state, or of a memory, that was replaced: as if it were right.
#define DESCRIBE_STATE                                                                             \
    "; python3 - \"$T\" <<'END'\n"                                                                 \
    "import hashlib, json, sys\n"                                                                  \
    "t = sys.argv[1]; d = json.load(open(t + '/template.json')); s = open(t + '/state', 'rb').read()\n" \
    "d['state'] = {'bytes': len(s), 'sha256': hashlib.sha256(s).hexdigest()}\n"                     \
    "json.dump(d, open(t + '/template.json', 'w'))\n"                                              \
    "END\n"
#define DESCRIBE_MEMORY                                                                            \
    "; python3 - \"$T\" <<'END'\n"                                                                 \
    "import json, os, sys\n"                                                                       \
    "t = sys.argv[1]; d = json.load(open(t + '/template.json')); s = os.stat(t + '/ram')\n"        \
    "m = d['memory']; m['inode'] = s.st_ino; m['bytes'] = s.st_size\n"                             \
    "m['modified'] = divmod(s.st_mtime_ns, 10**9); m['changed'] = divmod(s.st_ctime_ns, 10**9)\n"  \
    "json.dump(d, open(t + '/template.json', 'w'))\n"                                              \
    "END\n"
// Changes one byte at an offset.
#define FLIP(file, offset)                                                                         \
    "python3 -c 'import sys; f = open(sys.argv[1] + \"/" file "\", \"r+b\"); f.seek(" offset ")\n" \
    "b = f.read(1); f.seek(-1, 1); f.write(bytes([b[0] ^ 1]))' \"$T\""

static const struct {
    const char *what, *script;
    // What the warning says; NULL if there is nothing to warn of.
    const char *reason;
} damages[] = {
    {"a byte of the memory", FLIP("ram", "256 << 20"), "memory is not the file that was saved"},
    {"a byte of the memory, with its time set back",
     "touch -r \"$T/ram\" \"$T/../time\"; " FLIP("ram", "40 << 20") "; touch -r \"$T/../time\" \"$T/ram\"; rm \"$T/../time\"",
     "memory is not the file that was saved"},
    {"memory that is shorter", "truncate -s 300M \"$T/ram\"", "memory is not the file that was saved"},
    {"memory that is empty", "truncate -s 0 \"$T/ram\"", "memory is not the file that was saved"},
    {"a copy of the memory", "cp -p \"$T/ram\" \"$T/copy\"; mv \"$T/copy\" \"$T/ram\"", "memory is not the file that was saved"},
    {"no memory", "rm \"$T/ram\"", "ram: No such file"},
    {"memory that is a directory", "rm \"$T/ram\"; mkdir \"$T/ram\"", "ram: not a file"},
    {"memory that somebody emptied, described as if it were right",
     "truncate -s 0 \"$T/ram\"; truncate -s 512M \"$T/ram\"" DESCRIBE_MEMORY, "restore"},
    {"a byte of the state", FLIP("state", "1000"), "another checksum"},
    {"a state that is shorter", "truncate -s 1000 \"$T/state\"", "another size"},
    {"no state", "rm \"$T/state\"", "state: No such file"},
    {"a state of noise, described as if it were right",
     "head -c 100000 /dev/urandom > \"$T/state\"" DESCRIBE_STATE, "restore a machine"},
    {"an empty state, described as if it were right", "truncate -s 0 \"$T/state\"" DESCRIBE_STATE, "restore a machine"},
    {"half a state, described as if it were right",
     "truncate -s $(($(stat -c %s \"$T/state\") / 2)) \"$T/state\"" DESCRIBE_STATE, "restore a machine"},
    {"a state that names devices we do not have, described as if it were right",
     "sed -i 's/virtio/vortio/g' \"$T/state\"" DESCRIBE_STATE, "restore a machine"},
    {"a pipe in the place of the memory", "rm \"$T/ram\"; mkfifo \"$T/ram\"", "machine template was unusable"},
    {"a pipe in the place of the state", "rm \"$T/state\"; mkfifo \"$T/state\"", "machine template was unusable"},
    {"a pipe in the place of the description", "rm \"$T/template.json\"; mkfifo \"$T/template.json\"", "machine template was unusable"},
    {"a description that is none", "echo none > \"$T/template.json\"", "template.json"},
    {"an empty description", "truncate -s 0 \"$T/template.json\"", "template.json"},
    {"a description of another machine", "sed -i 's/512M/511M/' \"$T/template.json\"", "made from other parts"},
    {"a description from the time to come", "sed -i 's/\"made\": /&9/' \"$T/template.json\"", "too old"},
    {"no description", "rm \"$T/template.json\"", NULL},
    {"an empty directory", "rm \"$T\"/*", NULL},
    {"nothing", "rm -r \"$T\"", NULL},
    {"a plain file", "rm -r \"$T\"; echo none > \"$T\"", "template.json: Not a directory"},
    {"a file in the place of a workshop", "rm -r \"$T\"; echo none > \"$T.new\"", NULL},
    {"a link to nowhere", "rm -r \"$T\"; ln -s nowhere \"$T\"", NULL},
    {"a maker's leftovers", "rm -r \"$T\"; mkdir \"$T.new\"; echo none > \"$T.new/ram\"", NULL},
    {"not even its directory", "rm -r \"$HOME_/templates\"", NULL},
};

// A good one is made instead, once, and used from then on.
static void damaged_ones_are_made_anew(void)
{
    boxlite_runtime *runtime = open_without_disks();
    boxlite_box *box = new_box(runtime);
    warnings w = {""};
    listen_to_warnings(runtime, &w);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    PRINTS(box, "echo kept > /file; sync; cat /file", "kept\n");
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        uint64_t made = templates_made(runtime), detoured = detours(runtime);
        stop_box(box);
        host(damages[i].script);
        CHECK(count_machines() == 0);
        int32_t how = boot(box);
        PRINTS(box, "cat /file", "kept\n");
        dispatch_all(runtime);
        if (how != BOXLITE_BOOT_RESTORED || templates_made(runtime) != made + 1)
            FAIL("%s: boot %d, %d templates, %s", damages[i].what, (int)how, (int)(templates_made(runtime) - made), w.text);
        bool warned = damages[i].reason && strstr(w.text, damages[i].reason) && strstr(w.text, boxlite_box_id(box));
        uint64_t expected = damages[i].reason ? 1 : 0;
        if (detours(runtime) != detoured + expected || warned != (damages[i].reason != NULL))
            FAIL("%s: %d detours, %s", damages[i].what, (int)(detours(runtime) - detoured), w.text);
        CHECK(count_templates("", NULL) == 1);
        CHECK(count_templates(".new", NULL) == 0 && count_templates(".old", NULL) == 0);
        w.text[0] = 0;
    }
    uint64_t made = templates_made(runtime);
    stop_box(box);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == made);
    remove_box(runtime, box);
    close_runtime(runtime);
}

static void where_none_can_be_made_the_kernel_boots(void)
{
    boxlite_runtime *runtime = open_without_disks();
    boxlite_box *box = new_box(runtime);
    warnings w = {""};
    listen_to_warnings(runtime, &w);
    host("rm -rf $HOME_/templates; echo none > $HOME_/templates");
    CHECK(boot(box) == BOXLITE_BOOT_COLD);
    dispatch_all(runtime);
    CHECK(templates_made(runtime) == 0 && detours(runtime) == 1);
    CHECK(strstr(w.text, "templates") && strstr(w.text, boxlite_box_id(box)));
    stop_box(box);
    host("rm $HOME_/templates");
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    CHECK(templates_made(runtime) == 1 && detours(runtime) == 1);
    remove_box(runtime, box);
    close_runtime(runtime);
}

// A running box has all it needs.
static void a_running_box_outlives_its_template(void)
{
    boxlite_runtime *runtime = open_without_disks();
    boxlite_box *box = new_box(runtime), *other = new_box(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    host("rm -r \"$T\"");
    // More memory than was ever touched before, and programs that never ran.
    PRINTS(box, "dd if=/dev/zero of=/dev/shm/file bs=1M count=200 2>/dev/null; wc -c < /dev/shm/file", "209715200\n");
    PRINTS(box, "seq 1000 | sort -rn | awk '{ s += $1 } END { print s }'", "500500\n");
    CHECK(boot(other) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 2);
    PRINTS(box, "md5sum < /dev/shm/file | cut -c -32", "3566de3a97906edb98d004d6b947ae9b\n");
    PRINTS(box, "rm /dev/shm/file; echo still", "still\n");
    remove_box(runtime, box);
    remove_box(runtime, other);
    close_runtime(runtime);
}

static void another_qemu_has_its_own(void)
{
    boxlite_runtime *runtime = open_without_disks();
    boxlite_box *box = new_box(runtime);
    char copy[96];
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && count_templates("", NULL) == 1);
    // It looks for its parts beside itself.
    snprintf(copy, sizeof copy, "%s/usr/bin/qemu-system-x86_64", home);
    host("mkdir $HOME_/usr && ln -s /usr/* $HOME_/usr && rm $HOME_/usr/bin && mkdir $HOME_/usr/bin && "
         "cp \"$(readlink -f \"$(command -v qemu-system-x86_64)\")\" $HOME_/usr/bin/qemu-system-x86_64");
    for (int i = 0; i < 2; i++) {
        stop_box(box);
        setenv("BOXLITE_QEMU", copy, 1);
        CHECK(boot(box) == BOXLITE_BOOT_RESTORED && count_templates("", NULL) == 2);
        stop_box(box);
        unsetenv("BOXLITE_QEMU");
        CHECK(boot(box) == BOXLITE_BOOT_RESTORED && count_templates("", NULL) == 2);
    }
    CHECK(templates_made(runtime) == 2 && detours(runtime) == 0);
    // One that was changed in its place is another.
    stop_box(box);
    setenv("BOXLITE_QEMU", copy, 1);
    host("touch $HOME_/usr/bin/qemu-system-x86_64");
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED && templates_made(runtime) == 3);
    unsetenv("BOXLITE_QEMU");
    remove_box(runtime, box);
    close_runtime(runtime);
}

// Opens the home in another place, and starts a box in it; how many templates that took.
static uint64_t works_in(const char *place)
{
    if (place != home)
        strcpy(home, place);
    boxlite_runtime *runtime = open_without_disks();
    boxlite_box *box = new_box(runtime);
    CHECK(boot(box) == BOXLITE_BOOT_RESTORED);
    uint64_t made = templates_made(runtime);
    CHECK(count_templates("", NULL) == 1);
    remove_box(runtime, box);
    boxlite_runtime_free(runtime);
    EVENTUALLY(count_machines() == 0);
    return made;
}

static void a_home_may_be_moved_and_copied(void)
{
    char moved[80], copied[80];
    boxlite_runtime_free(open_without_disks());
    CHECK(works_in(home) == 1);
    snprintf(moved, sizeof moved, "%.40s.moved", home);
    snprintf(copied, sizeof copied, "%.40s.copied", home);

    host("mv $HOME_ $HOME_.moved");
    CHECK(works_in(moved) == 0);
    host("cp -a $HOME_ ${HOME_%.moved}.copied");
    CHECK(works_in(copied) == 1);
    CHECK(works_in(copied) == 0);
    CHECK(works_in(moved) == 0);
    close_runtime(open_without_disks());
    strcpy(home, copied);
    close_runtime(open_without_disks());
}

int main(void)
{
    damaged_ones_are_made_anew();
    where_none_can_be_made_the_kernel_boots();
    a_running_box_outlives_its_template();
    another_qemu_has_its_own();
    a_home_may_be_moved_and_copied();
    return 0;
}
