-- PostgreSQL runs this once, for an empty volume. The service's role is not a superuser: row-level security does not hold superusers.
\getenv password DATABASE_PASSWORD
CREATE ROLE exports LOGIN PASSWORD :'password';
CREATE DATABASE exports OWNER exports;
