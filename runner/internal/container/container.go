// Package container makes commands that run in containers of podman.
//
// Of the programs that run containers, only podman passes descriptors on, which a worker
// needs: a daemon, such as that of docker, starts its containers itself.
package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Container says in what container a command runs.
type Container struct {
	// Program is the path of podman.
	Program string
	// Image is the name of the image, and Python the interpreter in it.
	Image, Python string
	// Network gives the container a network of its own; otherwise it has none.
	Network bool
	// Memory, CPUs and SharedMemory limit what it uses; 0 means podman's default. Memory and
	// SharedMemory, the size of /dev/shm, are in bytes.
	Memory, SharedMemory int64
	CPUs                 float64
	// Mounts are files and folders of the host.
	Mounts []Mount
}

// Mount is a file or a folder of the host in a container.
type Mount struct {
	Host, Path string
	Write      bool
}

// ErrMissing is the error of [Find] if the machine has no podman.
var ErrMissing = errors.New("there is no podman on PATH, which runs containers")

// Hint says what to do about [ErrMissing].
const Hint = "install podman; docker cannot pass the descriptors of a worker on to a container"

// Find returns the path of podman. It starts nothing.
func Find() (string, error) {
	program, err := exec.LookPath("podman")
	if err != nil {
		return "", ErrMissing
	}
	return program, nil
}

// Options are what differs between the commands in one container.
type Options struct {
	// Dir is the working folder, which is mounted.
	Dir string
	// Env is the environment of the command, in addition to that of the image.
	Env []string
	// Descriptors is how many descriptors the command inherits, from 3 on.
	Descriptors int
	// Stdin passes standard input on.
	Stdin bool
	// Mounts are further files and folders, at the same paths as on the host.
	Mounts []Mount
}

// Command returns podman's arguments, without its name, for an interpreter with the given
// arguments, and the environment of podman. The container runs as the user of this process,
// without capabilities, and is removed when the interpreter has ended.
func (c *Container) Command(o Options, args ...string) (run, env []string) {
	run = []string{
		"run", "--rm", "--log-driver=none", "--cap-drop=all", "--security-opt=no-new-privileges", "--security-opt=label=disable",
		"--user=" + strconv.Itoa(os.Geteuid()) + ":" + strconv.Itoa(os.Getegid()), "--workdir=" + o.Dir, "--entrypoint=",
	}
	if os.Geteuid() != 0 {
		run = append(run, "--userns=keep-id")
	}
	if !c.Network {
		run = append(run, "--network=none")
	}
	if o.Stdin {
		run = append(run, "--interactive")
	}
	if o.Descriptors > 0 {
		run = append(run, "--preserve-fds="+strconv.Itoa(o.Descriptors))
	}
	if c.Memory > 0 {
		run = append(run, fmt.Sprintf("--memory=%db", c.Memory))
	}
	if c.SharedMemory > 0 {
		run = append(run, fmt.Sprintf("--shm-size=%db", c.SharedMemory))
	}
	if c.CPUs > 0 {
		run = append(run, "--cpus="+strconv.FormatFloat(c.CPUs, 'f', -1, 64))
	}
	for _, m := range append(append([]Mount{{Host: o.Dir, Path: o.Dir}}, o.Mounts...), c.Mounts...) {
		mount := "--volume=" + m.Host + ":" + m.Path
		if !m.Write {
			mount += ":ro"
		}
		run = append(run, mount)
	}
	passed, env := passEnvironment(o.Env)
	run = append(append(run, passed...), c.Image, c.Python)
	return append(run, args...), env
}

// passEnvironment returns options that pass variables on, and the environment of podman. The
// values of variables are in the latter, so that the list of processes does not show them,
// unless podman itself has another value for the same name.
func passEnvironment(variables []string) (options, env []string) {
	env = os.Environ()
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		if own, ok := os.LookupEnv(name); ok && own != value {
			options = append(options, "--env="+variable)
			continue
		}
		options = append(options, "--env="+name)
		env = append(env, variable)
	}
	return options, env
}
