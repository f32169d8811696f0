"""Live server: heads that speak in browsers and applications, over WebRTC and WebSockets."""
