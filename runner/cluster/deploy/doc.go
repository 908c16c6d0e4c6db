// Package deploy has manifests for Kubernetes, in the form of kustomize: base, and gpu for nodes
// with a GPU. It is a module of its own, so that programs that use gophersnake do not depend on
// the packages of Kubernetes, which the tests use.
package deploy
