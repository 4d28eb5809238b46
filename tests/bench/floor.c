/* The least that any manager has to do, and the job that says when it runs. `python -m tests.bench` compiles it.

   floor bell FIFO          write "JOB PID" to the FIFO, then wait to be ended
   floor spawn N FIFO       start N bells, each in a session of its own; stay until ended
   floor restart FIFO       start one bell, and another one as soon as it is dead; stay until ended
   floor run N K            run /bin/true N times, at most K at once
   What is started here carries this process's environment, by which it is found and ended. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static pid_t start(char **argv)
{
    posix_spawnattr_t attributes;
    pid_t pid;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    if (posix_spawn(&pid, argv[0], NULL, &attributes, argv, environ) != 0)
        exit(1);
    posix_spawnattr_destroy(&attributes);
    return pid;
}

static int bell(const char *fifo)
{
    char line[128];
    const char *job = getenv("PROCCLAW_JOB_ID");
    int length = snprintf(line, sizeof line, "%s %d\n", job != NULL ? job : "-", (int)getpid());
    int fd = open(fifo, O_WRONLY);
    if (fd < 0 || write(fd, line, length) != length)
        return 1;
    close(fd);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    char *ringing[] = {argv[0], "bell", argv[argc - 1], NULL};
    char *nothing[] = {"/bin/true", NULL};
    if (argc == 3 && strcmp(argv[1], "bell") == 0)
        return bell(argv[2]);
    if (argc == 4 && strcmp(argv[1], "spawn") == 0) {
        for (int left = atoi(argv[2]); left > 0; left--)
            start(ringing);
        for (;;)
            pause();
    }
    if (argc == 3 && strcmp(argv[1], "restart") == 0)
        for (;;) {
            start(ringing);
            wait(NULL);
        }
    if (argc == 4 && strcmp(argv[1], "run") == 0) {
        int running = 0, most = atoi(argv[3]);
        for (int left = atoi(argv[2]); left > 0; left--) {
            if (running == most) {
                wait(NULL);
                running--;
            }
            start(nothing);
            running++;
        }
        while (wait(NULL) > 0)
            ;
        return 0;
    }
    return 2;
}
