/* The client of the floor: the least that a program can do to have a root helper run a command.
   usage: floor-client SOCKET COMMAND [ARGUMENT...]
   It passes its own descriptors 0, 1 and 2 and exits with the code that the helper answers. */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_to(const char *path) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	return -1;
}

int main(int argc, char **argv) {
	char words[4096], code = 125;
	size_t length = 0;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control;
	int own[3] = {0, 1, 2}, fd;

	if (argc < 3 || (fd = connect_to(argv[1])) < 0)
		return 125;
	for (int at = 2; at < argc; at++) {
		size_t size = strlen(argv[at]) + 1;
		if (size > sizeof words - length)
			return 125;
		memcpy(words + length, argv[at], size);
		length += size;
	}
	struct iovec part = {words, length};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof control};
	control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof own),
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), own, sizeof own);
	if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)length)
		return 125;
	if (read(fd, &code, 1) != 1)
		return 125;
	return (unsigned char)code;
}
