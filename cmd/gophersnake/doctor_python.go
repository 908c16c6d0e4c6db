package main

import "context"

func (a *app) examine(ctx context.Context) []check {
	checks := []check{checkPlatform(), checkUV(), checkSpawn(), checkSockets(), checkFiles()}
	checks = append(checks, platformChecks()...)
	cache, _ := a.cache()
	return append(checks, checkCache(cache))
}
