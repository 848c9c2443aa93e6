package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// ports is a flag that may be given several times.
type ports []int

func (p *ports) String() string { return fmt.Sprint(*p) }

func (p *ports) Set(text string) error {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return err
	}
	*p = append(*p, int(port))
	return nil
}

// serve listens on every port that the arguments name, until one of them fails or it is told to end.
func serve(arguments []string) error {
	var plain, secure, lines, calls ports
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.Var(&plain, "port", "a port that speaks HTTP")
	flags.Var(&secure, "tls", "those of --port that speak it in TLS")
	flags.Var(&lines, "tcp", "a port that gives back what it gets")
	flags.Var(&calls, "grpc", "a port that speaks gRPC")
	// A certificate that nobody verifies is made at each start.
	flags.String("crt", "", "not read")
	flags.String("key", "", "not read")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	failed := make(chan error)
	start := func(port int, serve func(net.Listener) error) error {
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			go func() { failed <- serve(listener) }()
		}
		return err
	}
	var begun []error
	for _, port := range plain {
		if slices.Contains(secure, port) {
			begun = append(begun, start(port, secureServer(port)))
		} else {
			begun = append(begun, start(port, httpServer(port).Serve))
		}
	}
	for _, port := range lines {
		begun = append(begun, start(port, giveBack))
	}
	for _, port := range calls {
		begun = append(begun, start(port, grpcServer(port).Serve))
	}
	if err := errors.Join(begun...); err != nil {
		return err
	}
	log.Printf("serving HTTP on %v (TLS on %v), gRPC on %v, TCP on %v", plain, secure, calls, lines)
	// Without a port it only waits: some of the suite's pods are clients alone.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	select {
	case err := <-failed:
		return err
	case <-ended:
		return nil
	}
}

func httpServer(port int) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tell(w, r, port) })
	return &http.Server{Handler: answer, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}
}

// tell answers with what came, one `Word=value` a line.
func tell(w http.ResponseWriter, r *http.Request, port int) {
	fmt.Fprintf(w, "ServiceVersion=\nServicePort=%d\nHost=%s\nURL=%s\nMethod=%s\nProto=%s\nIP=%s\n",
		port, r.Host, r.URL.RequestURI(), r.Method, r.Proto, host(r.RemoteAddr))
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			fmt.Fprintf(w, "RequestHeader=%s:%s\n", name, value)
		}
	}
	fmt.Fprintf(w, "Hostname=%s\n", self())
}

func secureServer(port int) func(net.Listener) error {
	return func(listener net.Listener) error {
		certificate, err := selfSigned()
		if err != nil {
			return err
		}
		server := httpServer(port)
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		return server.ServeTLS(listener, "", "")
	}
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), DNSNames: []string{self()},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func giveBack(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			fmt.Fprintf(connection, "Hostname=%s\n", self())
			if _, err := io.Copy(connection, connection); err != nil {
				log.Printf("a TCP connection ended: %v", err)
			}
		}()
	}
}

// echoes answers gRPC calls: metadata that came and the pod that answers.
type echoes struct {
	pb.UnimplementedGrpcEchoServer
	port int
}

func grpcServer(port int) *grpc.Server {
	server := grpc.NewServer()
	pb.RegisterGrpcEchoServer(server, &echoes{port: port})
	return server
}

func (e *echoes) Echo(ctx context.Context, _ *pb.EchoRequest) (*pb.EchoResponse, error) {
	came, _ := metadata.FromIncomingContext(ctx)
	told := &pb.Assertions{
		FullyQualifiedMethod: pb.GrpcEcho_Echo_FullMethodName,
		Authority:            strings.Join(came.Get(":authority"), ","),
		Context:              &pb.Context{Pod: self()},
	}
	for _, name := range slices.Sorted(maps.Keys(came)) {
		for _, value := range came[name] {
			told.Headers = append(told.Headers, &pb.Header{Key: name, Value: value})
		}
	}
	return &pb.EchoResponse{Assertions: told}, nil
}

// self is the name of the pod.
func self() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

func host(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
