// Package pyenv finds the Python interpreter that a pipeline runs on, and creates and
// keeps the virtual environments that hold the pipelines' requirements.
//
// [Find] chooses the interpreter: a named one wins over an active environment's, and
// that over one on PATH. An interpreter is probed once, and the result is cached until
// its file changes.
//
// [Ensure] creates an environment, or reuses the one that it created before for the
// same interpreter and requirements. It installs with uv if uv is on PATH, otherwise
// with venv and pip. Its record is written last, and a folder without one counts as
// incomplete. A file lock keeps two processes from creating the same environment at
// the same time. Reusing an environment starts no process, and compares its files with their
// list. A damaged environment is created again.
//
// [System] checks an interpreter that is used without an environment.
//
// # The cache folder
//
//	interpreters/     cached probes of interpreters
//	envs/KEY/         an environment; gophersnake.json in it is its record, and
//	                  gophersnake.files lists its files
//	envs/KEY.build/   the installer's temporary files, during the build; locked as long as
//	                  a process of the build lives
//	envs/.locks/KEY   locked by the process that creates or removes the environment
//
// # pip's configuration
//
// Users with a package index of their own have configured pip for it, and uv
// does not read pip's configuration. Unless uv itself has been configured with an
// index, it is given pip's: its indexes, links, certificates, constraints and the
// like, from pip.conf and the PIP_ variables. With several indexes it takes the best
// version of all of them, as pip does. If a requirement line has an option that uv
// does not support, pip installs instead.
//
// Every error is an [*Error], which has a hint about what to do next.
package pyenv
