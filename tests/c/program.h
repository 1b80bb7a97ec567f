// Tests of several programs: each runs itself again as another one. Not a fork alone, whose child is
// no program of its own where its parent has threads, or a runtime open.
#ifndef PROGRAM_H
#define PROGRAM_H

#include "check.h"
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

typedef struct {
    const char *name;
    void (*run)(void);
} program;

// For the start of main(): does not return if this was started as one of the programs, the last of
// which has no name.
static inline void be_program(char **argv, const program *programs)
{
    if (!argv[1])
        return;
    alarm(240); // only guards against hanging
    snprintf(home, sizeof home, "%s", getenv("BOXLITE_TEST_HOME"));
    while (programs->name && strcmp(programs->name, argv[1]))
        programs++;
    CHECK(programs->name);
    programs->run();
    exit(0);
}

// Starts one of them in the same home; with descriptors as its input and output, or -1 for the same.
// It gets no other that is close-on-exec.
static inline pid_t start_program(const char *name, int in, int out)
{
    extern char **environ;
    char itself[] = "/proc/self/exe", argument[64];
    char *argv[] = {itself, argument, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    snprintf(argument, sizeof argument, "%s", name);
    // Not an argument: what names the home in its command line is a part of the library.
    setenv("BOXLITE_TEST_HOME", home, 1);
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(in < 0 || posix_spawn_file_actions_adddup2(&actions, in, 0) == 0);
    CHECK(out < 0 || posix_spawn_file_actions_adddup2(&actions, out, 1) == 0);
    CHECK(posix_spawn(&child, itself, &actions, NULL, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    return child;
}

// A pipe whose ends no program gets unless it is given them.
static inline void make_pipe(int ends[2])
{
    CHECK(pipe(ends) == 0 && fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0);
}

// Leaves a copy of this process that does nothing until its input ends, and dies.
static inline void die_and_leave_a_copy(void)
{
    if (fork() == 0) {
        char byte;
        _exit(read(0, &byte, 1) == 0 ? 0 : 1);
    }
    kill(getpid(), SIGKILL);
}

static inline void wait_killed(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static inline void wait_done(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        FAIL("a program ended with status %#x", (unsigned)status);
}

#endif
