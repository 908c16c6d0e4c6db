package worker

// launch starts the command: under the node's isolation, where it has one. What the
// process gets for itself then goes when it has ended.
func (p *process) launch() error {
	if p.isolation == nil {
		return p.cmd.Start()
	}
	place, err := p.isolation.Start(p.cmd, p.socketDir)
	p.place = place
	return err
}
