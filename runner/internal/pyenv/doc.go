// Package pyenv finds the Python interpreter that a pipeline runs on, and makes
// and keeps the virtual environments that hold what pipelines require.
//
// [Find] chooses the interpreter: what is named wins over what is active, and
// that over what is on PATH. An interpreter is asked about itself once; its answer
// is kept until the file changes.
//
// [Ensure] makes an environment, or reuses the one that it made before for the
// same interpreter and requirements. It installs with uv where uv is on PATH, else
// with venv and pip. An environment appears only when it is complete: a folder
// without its record, which is written last, counts as rubbish. A file lock keeps
// processes from making the same one at once. Reusing starts no process.
//
// [System] checks an interpreter that is to be used as it is.
//
// # The cache folder
//
//	interpreters/     what interpreters said of themselves
//	envs/KEY/         an environment; gophersnake.json in it is its record
//	envs/KEY.build/   the installer's temporary files, while it works
//	envs/.locks/KEY   held by the process that makes, or removes, the environment
//
// # pip's configuration
//
// People who keep packages elsewhere have told pip so, and uv does not read what
// pip was told. Where uv itself has not been given an index, it is handed pip's: its
// indexes, links, certificates, constraints and the like, from pip.conf and the
// PIP_ variables. With several indexes it takes the best version of all of them,
// as pip does. Requirement lines with options that uv does not know go to pip.
//
// Every error is an [*Error], which says what to do next.
package pyenv
