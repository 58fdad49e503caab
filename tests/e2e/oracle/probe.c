/* Says as text what a process was started with: one NAME=VALUE line each, with bytes that are not
 * plain ASCII, and the backslash, as \xNN. Numbers stand as the kernel gives them; what they mean
 * beside those of another process is for the reader to say.
 *
 * In C, because a Rust program's start changes some of what is asked about (it ignores SIGPIPE and
 * opens closed standard descriptors). What main() finds is what execve() left. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

extern char **environ;

/* Memory, not a stream: nothing is written, and no descriptor touched, before all is asked. */
static FILE *out;

static void value(const char *bytes, size_t length) {
  for (size_t at = 0; at < length; at++) {
    unsigned char byte = (unsigned char)bytes[at];
    if (byte >= ' ' && byte <= '~' && byte != '\\')
      fputc(byte, out);
    else
      fprintf(out, "\\x%02x", byte);
  }
  fputc('\n', out);
}

static void text(const char *name, const char *bytes) {
  fprintf(out, "%s=", name);
  value(bytes, strlen(bytes));
}

static void number(const char *name, long long value) {
  fprintf(out, "%s=%lld\n", name, value);
}

/* The result of a call, or the name of its error. */
static void result(const char *name, long value) {
  if (value < 0)
    text(name, strerrorname_np(errno));
  else
    number(name, value);
}

static size_t contents(const char *path, char *into, size_t room) {
  size_t length = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return 0;
  for (ssize_t got; length < room && (got = read(fd, into + length, room - length)) > 0;)
    length += (size_t)got;
  close(fd);
  return length;
}

static void file(const char *name, const char *path) {
  char bytes[4096];
  size_t length = contents(path, bytes, sizeof bytes);
  while (length > 0 && (bytes[length - 1] == '\n' || bytes[length - 1] == '\0'))
    length--;
  fprintf(out, "%s=", name);
  value(bytes, length);
}

static void target(const char *name, const char *path) {
  char bytes[4096];
  ssize_t length = readlink(path, bytes, sizeof bytes);
  fprintf(out, "%s=", name);
  value(bytes, length < 0 ? 0 : (size_t)length);
}

/* The lines of /proc/self/status that outlive an execve(). */
static void status(void) {
  static const char *const kept[] = {"Umask",  "Uid",    "Gid",    "Groups", "SigPnd",
                                     "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh",
                                     "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
                                     "Seccomp", "Speculation_Store_Bypass",
                                     "SpeculationIndirectBranch",
                                     "Cpus_allowed_list",
                                     "Mems_allowed_list", "TracerPid"};
  static char bytes[16384];
  size_t length = contents("/proc/self/status", bytes, sizeof bytes - 1);
  bytes[length] = '\0';
  for (char *rest = bytes, *line; (line = strsep(&rest, "\n")) != NULL;) {
    char *name = strsep(&line, ":");
    for (size_t at = 0; line != NULL && at < sizeof kept / sizeof *kept; at++) {
      if (strcmp(name, kept[at]) != 0)
        continue;
      fprintf(out, "status.%s=", name);
      const char *gap = "";
      for (char *word; (word = strsep(&line, "\t ")) != NULL;) {
        if (*word == '\0')
          continue;
        fprintf(out, "%s%s", gap, word);
        gap = " ";
      }
      fputc('\n', out);
    }
  }
}

static void limits(void) {
  static const char *const names[] = {"CPU",   "FSIZE",  "DATA",    "STACK", "CORE",       "RSS",
                                      "NPROC", "NOFILE", "MEMLOCK", "AS",    "LOCKS",      "SIGPENDING",
                                      "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"};
  for (int at = 0; at < 16; at++) {
    struct rlimit limit;
    if (getrlimit(at, &limit) == 0)
      fprintf(out, "limit.%s=%lld:%lld\n", names[at], (long long)limit.rlim_cur,
              (long long)limit.rlim_max);
  }
}

static const char *kind(mode_t mode) {
  switch (mode & S_IFMT) {
  case S_IFCHR: return "device";
  case S_IFIFO: return "pipe";
  case S_IFSOCK: return "socket";
  case S_IFREG: return "file";
  case S_IFDIR: return "directory";
  default: return "other";
  }
}

static void descriptor(int fd) {
  struct stat found;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fstat(fd, &found) != 0)
    return;
  static const char *const modes[] = {"read", "write", "both", "none"};
  fprintf(out, "fd.%d=%s %s%s%s%s", fd, kind(found.st_mode), modes[flags & O_ACCMODE],
          flags & O_NONBLOCK ? " nonblock" : "", flags & O_APPEND ? " append" : "",
          fcntl(fd, F_GETFD) & FD_CLOEXEC ? " cloexec" : "");
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  /* A FIFO's name says who made it; what it is to the process is a pipe. */
  if (length > 0 && path[0] == '/' && !S_ISFIFO(found.st_mode)) {
    fputc(' ', out);
    value(path, (size_t)length);
  } else {
    fputc('\n', out);
  }
}

static void descriptors(void) {
  DIR *listed = opendir("/proc/self/fd");
  int own = listed == NULL ? -1 : dirfd(listed);
  for (struct dirent *entry; listed != NULL && (entry = readdir(listed)) != NULL;) {
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd != own)
      descriptor(fd);
  }
  if (listed != NULL)
    closedir(listed);
}

static void scheduling(void) {
  errno = 0;
  number("nice", getpriority(PRIO_PROCESS, 0));
  result("scheduler", syscall(SYS_sched_getscheduler, 0));
  struct sched_param parameters = {0};
  sched_getparam(0, &parameters);
  number("scheduler.priority", parameters.sched_priority);
  result("ioprio", syscall(SYS_ioprio_get, 1, 0));
  result("timer-slack", prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
  int policy = 0;
  if (syscall(SYS_get_mempolicy, &policy, NULL, 0, NULL, 0) == 0)
    number("memory-policy", policy);
  file("oom-score-adj", "/proc/self/oom_score_adj");
  for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
    struct itimerval timer;
    getitimer(which, &timer);
    fprintf(out, "timer.%d=%s\n", which, timer.it_value.tv_sec > 0 ? "set" : "none");
  }
}

static void session(void) {
  number("pid", getpid());
  number("group", getpgrp());
  number("session", getsid(0));
  int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  text("terminal", terminal < 0 ? "none" : "one");
  if (terminal >= 0)
    close(terminal);
  file("login-uid", "/proc/self/loginuid");
  file("audit-session", "/proc/self/sessionid");
  file("cgroup", "/proc/self/cgroup");
}

static void authority(void) {
  result("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
  result("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
  result("keep-capabilities", prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0));
  int flag = 0;
  result("subreaper", prctl(PR_GET_CHILD_SUBREAPER, &flag, 0, 0, 0) < 0 ? -1 : flag);
  result("parent-death-signal", prctl(PR_GET_PDEATHSIG, &flag, 0, 0, 0) < 0 ? -1 : flag);
  result("timestamps", prctl(PR_GET_TSC, &flag, 0, 0, 0) < 0 ? -1 : flag);
  result("personality", personality(0xffffffff));
  result("machine-check", prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
  result("no-huge-pages", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
  file("core-filter", "/proc/self/coredump_filter");
  number("secure-start", (long long)getauxval(AT_SECURE));
  /* The session keyring, and that of the user's sessions, which stands in where there is none. */
  result("keyring", syscall(SYS_keyctl, 0, -3, 0));
  char description[256];
  long length = syscall(SYS_keyctl, 6, -3, description, sizeof description);
  if (length > 0)
    text("keyring.name", description);
}

static void places(const char *started_as) {
  target("directory", "/proc/self/cwd");
  target("root", "/proc/self/root");
  target("program", "/proc/self/exe");
  file("command-name", "/proc/self/comm");
  text("argv0", started_as);
  text("executed", (const char *)getauxval(AT_EXECFN));
  static const char *const spaces[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
  for (size_t at = 0; at < sizeof spaces / sizeof *spaces; at++) {
    char name[64], path[64];
    snprintf(name, sizeof name, "namespace.%s", spaces[at]);
    snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[at]);
    target(name, path);
  }
}

/* Ends in one of the ways in which a command can end. */
static int end(const char *way, const char *number) {
  if (strcmp(way, "exit-with") == 0)
    return atoi(number);
  if (strcmp(way, "die-by") == 0)
    raise(atoi(number));
  if (strcmp(way, "write-on") == 0)
    while (write(STDOUT_FILENO, "more\n", 5) > 0)
      ;
  if (strcmp(way, "leave-behind") == 0) {
    pid_t left = fork();
    if (left == 0) {
      setsid();
      close_range(0, ~0U, 0);
      for (;;)
        pause();
    }
    printf("left=%d\n", left);
    return 0;
  }
  return 99;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "end") == 0)
    return end(argv[2], argv[3]);
  char *memory = NULL;
  size_t length = 0;
  out = open_memstream(&memory, &length);
  if (out == NULL)
    return 1;
  /* "argv-only" says the arguments alone; they are what follows it. */
  int arguments_only = argc > 1 && strcmp(argv[1], "argv-only") == 0;
  if (!arguments_only) {
    status();
    descriptors();
    limits();
    scheduling();
    session();
    authority();
    places(argv[0]);
    for (char **variable = environ; *variable != NULL; variable++) {
      fputs("env.", out);
      value(*variable, strlen(*variable));
    }
  }
  number("argc", argc);
  for (int at = 0; at < argc; at++) {
    fprintf(out, "arg.%d=", at);
    value(argv[at], strlen(argv[at]));
  }
  fclose(out);
  for (size_t written = 0; written < length;) {
    ssize_t wrote = write(STDOUT_FILENO, memory + written, length - written);
    if (wrote < 0)
      return 1;
    written += (size_t)wrote;
  }
  return 0;
}
