"""The site's addresses."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

handler500 = "monitoring.dashboard.views.failed"
urlpatterns = [
    # One page to sign in at, with its lock and its second factor.
    path("admin/login/", RedirectView.as_view(pattern_name="sign-in", query_string=True)),
    path("admin/", admin.site.urls),
    path("", include("monitoring.urls")),
]
