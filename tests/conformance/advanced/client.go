package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

const (
	// How long one call may take.
	callTimeout = 10 * time.Second
	// The most of an answer that is read.
	bodyMax = 1 << 20
)

// wish is what the arguments ask for: URL, --method=, -H Name:value, --count=.
type wish struct {
	to      *url.URL
	method  string
	headers http.Header
	count   int
}

func wishOf(arguments []string) (wish, error) {
	wanted := wish{method: http.MethodGet, headers: http.Header{}, count: 1}
	for at := 0; at < len(arguments); at++ {
		name, value, joined := strings.Cut(arguments[at], "=")
		if !strings.HasPrefix(arguments[at], "-") {
			to, err := url.Parse(arguments[at])
			if err != nil {
				return wanted, err
			}
			wanted.to = to
			continue
		}
		if !joined {
			if at++; at == len(arguments) {
				return wanted, fmt.Errorf("%s: a value is missing", name)
			}
			value = arguments[at]
		}
		switch strings.TrimLeft(name, "-") {
		case "method":
			wanted.method = value
		case "H", "header":
			header, text, _ := strings.Cut(value, ":")
			wanted.headers.Add(header, text)
		case "count":
			count, err := strconv.Atoi(value)
			if err != nil || count < 1 {
				return wanted, fmt.Errorf("%s: %q is no number of calls", name, value)
			}
			wanted.count = count
		default:
			return wanted, fmt.Errorf("there is no %s", name)
		}
	}
	if wanted.to == nil {
		return wanted, errors.New("no URL is given")
	}
	return wanted, nil
}

// call calls as often as it is asked to, one after another, and prints a paragraph for each answer.
func call(arguments []string) error {
	wanted, err := wishOf(arguments)
	if err != nil {
		return err
	}
	var one func() (string, error)
	switch wanted.to.Scheme {
	case "http", "https":
		one = wanted.http()
	case "grpc":
		if one, err = wanted.grpc(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%q is spoken by nobody here", wanted.to.Scheme)
	}
	for range wanted.count {
		answer, err := one()
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return nil
}

// http makes a call of HTTP/1.1. Every call opens a connection of its own, so that each is somebody's first. No redirect is followed.
func (w wish) http() func() (string, error) {
	client := http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			// The server's certificate is its own.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func() (string, error) {
		request, err := http.NewRequest(w.method, w.to.String(), nil)
		if err != nil {
			return "", err
		}
		request.Header = w.headers.Clone()
		// Go sends the host from a field of its own.
		if host := request.Header.Get("Host"); host != "" {
			request.Host = host
		}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, bodyMax))
		if err != nil {
			return "", err
		}
		var told strings.Builder
		fmt.Fprintf(&told, "Url=%s\nStatusCode=%d\n", w.to, response.StatusCode)
		for _, name := range slices.Sorted(maps.Keys(response.Header)) {
			for _, value := range response.Header[name] {
				fmt.Fprintf(&told, "ResponseHeader=%s:%s\n", name, value)
			}
		}
		// An empty line would end the paragraph.
		lines := bufio.NewScanner(strings.NewReader(string(body)))
		for lines.Scan() {
			if line := strings.TrimSpace(lines.Text()); line != "" {
				fmt.Fprintln(&told, line)
			}
		}
		return told.String(), lines.Err()
	}
}

// grpc makes calls of the suite's own echo service over one connection.
func (w wish) grpc() (func() (string, error), error) {
	connection, err := grpc.NewClient("passthrough:///"+w.to.Host,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(w.to.Host))
	if err != nil {
		return nil, err
	}
	client := pb.NewGrpcEchoClient(connection)
	return func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		for name, values := range w.headers {
			for _, value := range values {
				ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(name), value)
			}
		}
		var head metadata.MD
		answer, err := client.Echo(ctx, &pb.EchoRequest{}, grpc.Header(&head))
		if err != nil {
			return "", err
		}
		var told strings.Builder
		fmt.Fprintf(&told, "Url=%s\nStatusCode=200\n", w.to)
		for _, name := range slices.Sorted(maps.Keys(head)) {
			for _, value := range head[name] {
				fmt.Fprintf(&told, "ResponseHeader=%s:%s\n", name, value)
			}
		}
		was := answer.GetAssertions()
		fmt.Fprintf(&told, "Host=%s\nURL=%s\nProto=GRPC\n", was.GetAuthority(), was.GetFullyQualifiedMethod())
		for _, header := range was.GetHeaders() {
			fmt.Fprintf(&told, "RequestHeader=%s:%s\n", header.GetKey(), header.GetValue())
		}
		fmt.Fprintf(&told, "Hostname=%s\n", was.GetContext().GetPod())
		return told.String(), nil
	}, nil
}
