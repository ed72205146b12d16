package process

import "syscall"

// attributes put the program into a group of its own and tie it to us. SIGTERM, not SIGKILL: Vault ends its plugins then.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
