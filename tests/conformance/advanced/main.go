// Command advanced is both ends of the suite's mesh tests, which call it "echo-advanced": called as `server` it tells callers what
// it got, called as `client` it calls, and prints the answer in lines that the suite's utils/echo reads.
//
// The image that the suite names is another mesh's test program and no part of the suite's module, so this stands in for it:
// the same arguments, the same words. Absent: what no test of the suite asks for.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	run := serve
	if filepath.Base(os.Args[0]) == "client" {
		run = call
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
