package main

import "github.com/spf13/cobra"

func newEnv(a *app) *cobra.Command { return &cobra.Command{Use: "env"} }
