/* caller SETTING... -- PROGRAM [ARGUMENT...]: becomes a caller in a known state, changed by the
 * settings, and then the program. What cannot be set ends it with 125 and one sentence.
 *
 * A known state: whatever the test itself was started with (a build service that ignores signals,
 * runs niced or leaves descriptors open) is no part of what is compared. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IOPRIO_CLASS_SHIFT 13

static int must(const char *what, long result) {
  if (result < 0)
    fprintf(stderr, "caller: %s: %s\n", what, strerror(errno));
  return result < 0 ? -1 : 0;
}

static int write_to(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  ssize_t wrote = write(fd, text, strlen(text));
  close(fd);
  return wrote < 0 ? -1 : 0;
}

/* Those of process 1, as every service starts with, and of login shells where it raises its own. */
static void usual_limits(void) {
  for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
    struct rlimit own, wanted;
    getrlimit(resource, &own);
    if (prlimit(1, resource, NULL, &wanted) != 0)
      wanted = own;
    rlim_t cap = resource == RLIMIT_NOFILE ? 1024 : resource == RLIMIT_CORE ? 0 : RLIM_INFINITY;
    wanted.rlim_cur = cap == RLIM_INFINITY ? wanted.rlim_cur : cap;
    if (wanted.rlim_cur > wanted.rlim_max)
      wanted.rlim_cur = wanted.rlim_max;
    if (setrlimit(resource, &wanted) == 0)
      continue;
    /* Nobody may raise a hard limit here. */
    own.rlim_cur = wanted.rlim_cur < own.rlim_max ? wanted.rlim_cur : own.rlim_max;
    setrlimit(resource, &own);
  }
}

/* What a person's shell starts commands with, as far as nothing is said otherwise. */
static void known_state(void) {
  umask(022);
  /* The kernel's own call and structure: libc leaves out the two signals that it keeps for itself. */
  unsigned long by_default[4] = {0}, none = 0;
  for (int number = 1; number <= 64; number++)
    syscall(SYS_rt_sigaction, number, by_default, NULL, sizeof none);
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
  usual_limits();
  setpriority(PRIO_PROCESS, 0, 0);
  prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
  write_to("/proc/self/oom_score_adj", "0");
  close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

static int signals(const char *numbers, int ignore) {
  sigset_t set;
  sigemptyset(&set);
  for (const char *at = numbers; *at != '\0';) {
    char *end;
    int signal_number = (int)strtol(at, &end, 10);
    if (ignore && signal(signal_number, SIG_IGN) == SIG_ERR)
      return -1;
    sigaddset(&set, signal_number);
    at = *end == ',' ? end + 1 : end;
  }
  return ignore ? 0 : sigprocmask(SIG_BLOCK, &set, NULL);
}

/* RESOURCE:SOFT:HARD, numbers; -1 is no limit. */
static int limit(const char *value) {
  int resource;
  long long soft, hard;
  if (sscanf(value, "%d:%lld:%lld", &resource, &soft, &hard) != 3)
    return -1;
  struct rlimit wanted = {(rlim_t)soft, (rlim_t)hard};
  return setrlimit((__rlimit_resource_t)resource, &wanted);
}

/* RESOURCE:SOFT; the hard limit stays. */
static int soft_limit(const char *value) {
  int resource;
  long long soft;
  struct rlimit wanted;
  if (sscanf(value, "%d:%lld", &resource, &soft) != 2 || getrlimit(resource, &wanted) != 0)
    return -1;
  wanted.rlim_cur = (rlim_t)soft < wanted.rlim_max ? (rlim_t)soft : wanted.rlim_max;
  return setrlimit((__rlimit_resource_t)resource, &wanted);
}

/* NUMBER:PATH, left open over the execve(). */
static int descriptor(const char *value) {
  char *path;
  int number = (int)strtol(value, &path, 10);
  int fd = open(path + 1, O_RDONLY | O_CLOEXEC);
  return fd < 0 ? -1 : dup2(fd, number);
}

static int set_user(const char *value) {
  int id = atoi(value);
  gid_t group = (gid_t)id;
  if (setgroups(1, &group) != 0 || setresgid(group, group, group) != 0)
    return -1;
  return setresuid((uid_t)id, (uid_t)id, (uid_t)id);
}

static int first_processor(void) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    return -1;
  int first = 0;
  while (!CPU_ISSET(first, &allowed))
    first++;
  CPU_ZERO(&allowed);
  CPU_SET(first, &allowed);
  return sched_setaffinity(0, sizeof allowed, &allowed);
}

/* The terminal on standard input becomes that of a session of its own. */
static int take_terminal(void) {
  return setsid() < 0 ? -1 : ioctl(STDIN_FILENO, TIOCSCTTY, 0);
}

static int apply(const char *name, const char *value) {
  struct sched_param none = {0};
#define IS(word) (strcmp(name, word) == 0)
  if (IS("user")) return set_user(value);
  if (IS("umask")) return umask((mode_t)strtol(value, NULL, 8)), 0;
  if (IS("ignore")) return signals(value, 1);
  if (IS("block")) return signals(value, 0);
  if (IS("nice")) return setpriority(PRIO_PROCESS, 0, atoi(value));
  if (IS("limit")) return limit(value);
  if (IS("soft-limit")) return soft_limit(value);
  if (IS("fd")) return descriptor(value);
  if (IS("close")) return close(atoi(value));
  if (IS("oom")) return write_to("/proc/self/oom_score_adj", value);
  if (IS("core-filter")) return write_to("/proc/self/coredump_filter", value);
  if (IS("login-uid")) return write_to("/proc/self/loginuid", value);
  if (IS("batch")) return sched_setscheduler(0, SCHED_BATCH, &none);
  if (IS("idle-io"))
    return (int)syscall(SYS_ioprio_set, 1, 0, 3 << IOPRIO_CLASS_SHIFT);
  if (IS("one-processor")) return first_processor();
  if (IS("slack")) return prctl(PR_SET_TIMERSLACK, atol(value), 0, 0, 0);
  if (IS("keyring")) return (int)syscall(SYS_keyctl, 1, value) < 0 ? -1 : 0;
  if (IS("personality")) return personality((unsigned long)strtol(value, NULL, 16));
  if (IS("subreaper")) return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  if (IS("no-huge-pages")) return prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  if (IS("machine-check")) return prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
  if (IS("memory-policy")) return (int)syscall(SYS_set_mempolicy, 4, NULL, 0);
  if (IS("no-new-privileges")) return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (IS("securebits")) return prctl(PR_SET_SECUREBITS, strtol(value, NULL, 16), 0, 0, 0);
  if (IS("drop-bound")) return prctl(PR_CAPBSET_DROP, atoi(value), 0, 0, 0);
  if (IS("terminal")) return take_terminal();
  if (IS("namespaces")) return unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS);
  errno = EINVAL;
  return -1;
}

int main(int argc, char **argv) {
  known_state();
  int at = 1;
  for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
    char *name = argv[at], *value = strchr(name, '=');
    if (value != NULL)
      *value++ = '\0';
    if (must(name, apply(name, value == NULL ? "" : value)) != 0)
      return 125;
  }
  if (at + 1 >= argc)
    return 125;
  execv(argv[at + 1], argv + at + 1);
  must(argv[at + 1], -1);
  return 125;
}
