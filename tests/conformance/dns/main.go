// Command dns is CoreDNS with the plugins that the suite's Corefile names: a server for UDP behind a gateway.
//
// In: -conf with a Corefile, as any CoreDNS. Absent: all other plugins.
package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/whoami"
)

func main() {
	coremain.Run()
}
