import { defineConfig } from "vite";

/** The server answers `/` with index.html and `/ui/NAME` with the other files, which are beside it. */
export default defineConfig({
  base: "./",
  build: {
    outDir: process.env["EMBERGEM_UI"] ?? "../src/embergem/server/ui",
    emptyOutDir: true,
    assetsDir: "",
    assetsInlineLimit: 0, // the content security policy allows no data: addresses
    modulePreload: { polyfill: false },
    target: "es2022",
    reportCompressedSize: false,
  },
  worker: { format: "es" },
  experimental: {
    renderBuiltUrl: (name, { hostType }) => (hostType === "html" ? `./ui/${name}` : { relative: true }),
  },
  server: { proxy: { "/v1": "http://localhost:1234" } },
});
