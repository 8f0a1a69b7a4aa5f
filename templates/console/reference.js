// Starts the viewer of the API reference. It must ask no other host: not for fonts, statistics, a proxy or its assistant.
Scalar.createApiReference("#reference", {
  url: "/openapi.json",
  // The page may call only the host that served it.
  servers: [{ url: location.origin, description: "This installation" }],
  withDefaultFonts: false,
  // The viewer's own greys and method colours are too pale to read.
  customCss: `
    .light-mode {
      --scalar-color-2: #4a4a4a;
      --scalar-color-3: #595959;
      --scalar-color-green: #0a6b3d;
      --scalar-color-blue: #0b5cad;
      --scalar-color-yellow: #7a5200;
      --scalar-color-orange: #a34700;
      --scalar-color-red: #b3001b;
    }
    .dark-mode {
      --scalar-color-2: #cfcfcf;
      --scalar-color-3: #b0b0b0;
      --scalar-color-green: #4cc38a;
      --scalar-color-blue: #5cb3ff;
      --scalar-color-yellow: #ffc94d;
      --scalar-color-orange: #ff9f5a;
      --scalar-color-red: #ff8a93;
    }
  `,
  telemetry: false,
  agent: { disabled: true },
  showDeveloperTools: "never",
  hideClientButton: true,
  orderSchemaPropertiesBy: "preserve",
  defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
  hiddenClients: [
    "c", "clojure", "csharp", "dart", "fsharp", "go", "http", "java", "js", "kotlin", "objc", "ocaml", "php",
    "powershell", "r", "ruby", "rust", "swift",
  ],
});
